"""Selections are sets; polygons do not care where they are drawn."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle.selection import Selection, inside_polygon

ids = st.lists(st.integers(0, 30), max_size=20)
EVERYTHING = np.arange(31)
grid = st.integers(-8, 8)
corner = st.tuples(grid, grid)


class TestAlgebra:
    @given(ids, ids)
    @settings(deadline=None, max_examples=60)
    def test_it_is_that_of_sets(self, a, b):
        one, other = Selection("A/0", np.array(a, np.int64)), Selection("B", np.array(b, np.int64))
        for result, expected in [
            (one | other, set(a) | set(b)), (one & other, set(a) & set(b)), (one - other, set(a) - set(b)),
            (one.complement(EVERYTHING), set(EVERYTHING.tolist()) - set(a)),
        ]:  # fmt: skip
            assert result.ids.tolist() == sorted(expected)
            assert result.ids.dtype == np.int64
            assert len(result) == len(expected)

    @given(ids, ids)
    @settings(deadline=None, max_examples=30)
    def test_the_complement_of_a_union_is_the_intersection_of_complements(self, a, b):
        one, other = Selection("A", np.array(a, np.int64)), Selection("B", np.array(b, np.int64))
        left = (one | other).complement(EVERYTHING)
        right = one.complement(EVERYTHING) & other.complement(EVERYTHING)
        np.testing.assert_array_equal(left.ids, right.ids)

    def test_it_says_how_it_was_made(self):
        made = Selection("A/0", np.array([3, 1, 1])) - Selection("A/1", np.array([3]))
        assert made.ids.tolist() == [1]
        assert made.how == {"operation": "-", "of": ["A/0", "A/1"]}
        assert made.name == "A/0 - A/1"


def points() -> np.ndarray:
    """Off the grid that corners are drawn on, so that none lies on an edge."""
    axis = np.arange(-8, 8) + 0.37
    return np.stack(np.meshgrid(axis, axis + 0.1234), -1).reshape(-1, 2)


class TestPolygon:
    def test_a_square(self):
        inside = inside_polygon([[0.5, 0.5], [1.5, 0.5], [-0.1, 0.5], [0.5, 2]], [[0, 0], [1, 0], [1, 1], [0, 1]])
        assert inside.tolist() == [True, False, False, False]

    def test_a_hole_where_it_winds_twice(self):
        ring = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0], [1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]
        assert inside_polygon([[2, 2], [0.5, 2]], ring).tolist() == [False, True]

    @given(st.lists(corner, min_size=3, max_size=8), corner)
    @settings(deadline=None, max_examples=60)
    def test_moving_closing_reversing_and_starting_elsewhere_change_nothing(self, polygon, move):
        shape, where = np.array(polygon, float), points()
        expected = inside_polygon(where, shape)
        np.testing.assert_array_equal(inside_polygon(where + move, shape + move), expected)
        np.testing.assert_array_equal(inside_polygon(where, np.concatenate([shape, shape[:1]])), expected)
        np.testing.assert_array_equal(inside_polygon(where, shape[::-1]), expected)
        np.testing.assert_array_equal(inside_polygon(where, np.roll(shape, 2, axis=0)), expected)

    @given(st.lists(corner, min_size=3, max_size=3))
    @settings(deadline=None, max_examples=40)
    def test_a_triangle_holds_what_lies_on_one_side_of_all_its_edges(self, polygon):
        shape = np.array(polygon, float)
        a, b, c = shape
        where = points()
        weights = np.stack([_side(where, a, b), _side(where, b, c), _side(where, c, a)])
        expected = (weights > 0).all(0) | (weights < 0).all(0)
        if abs(np.linalg.det([b - a, c - a])) > 0:
            np.testing.assert_array_equal(inside_polygon(where, shape), expected)

    def test_nothing_to_ask_and_nothing_drawn(self):
        assert inside_polygon(np.empty((0, 2)), [[0, 0], [1, 0], [0, 1]]).shape == (0,)
        assert not inside_polygon([[0, 0]], np.empty((0, 2))).any()


def _side(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (b[0] - a[0]) * (p[:, 1] - a[1]) - (b[1] - a[1]) * (p[:, 0] - a[0])
