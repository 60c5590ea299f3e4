"""Selections are sets, and steps of a history; outlines do not care where they are drawn."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_disentangle.selection import History, Selection, inside_polygon, near_path

ids = st.lists(st.integers(0, 30), max_size=20)
EVERYTHING = np.arange(31)
grid = st.integers(-8, 8)
corner = st.tuples(grid, grid)
# On the lines that corners are drawn on, between them, and outside.
coordinate = st.one_of(grid.map(float), st.floats(-9, 9))
scale = st.sampled_from([1e-150, 1e-30, 1e-3, 1.0, 7.3, 1e6, 1e30, 1e150])


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

    def test_a_control_is_as_many_from_outside_and_always_the_same(self):
        one = Selection("A/0", np.arange(10, 20))
        control = one.control(np.arange(100))
        assert len(control) == 10
        assert not np.isin(control.ids, one.ids).any()
        assert np.ptp(control.ids) > 20, "from everywhere"
        assert control.name.startswith("control-")
        assert control.how["of"] == ["A/0"]
        again = Selection("B/3", one.ids).control(np.arange(100))
        assert (again.name, again.ids.tolist()) == (control.name, control.ids.tolist())
        assert Selection("A/1", np.arange(9)).control(np.arange(100)).name != control.name
        assert one.control(np.arange(14)).ids.tolist() == list(range(10)), "all others, where there are fewer"

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

    @given(st.lists(st.tuples(coordinate, coordinate), max_size=40), st.lists(corner, max_size=12), scale, scale)
    @settings(deadline=None, max_examples=300)
    @example([(0.0, 0.0), (1.0, 1.0), (2.0, 1.0)], [(0, 0), (2, 0), (2, 2), (0, 2)], 1.0, 1.0)
    def test_it_is_the_rule_edge_by_edge(self, where, polygon, x_scale, y_scale):
        by = [x_scale, y_scale]
        asked, shape = np.reshape(where, (-1, 2)) * by, np.reshape(polygon, (-1, 2)) * by
        np.testing.assert_array_equal(inside_polygon(asked, shape), _even_odd(asked, shape))

    @given(st.integers(0, 2**32 - 1), st.integers(3, 60), st.sampled_from([1e-9, 1e-3, 1.0, 1e6]), st.floats(-1e3, 1e3))
    @settings(deadline=None, max_examples=60)
    def test_it_is_the_rule_for_scribbles_over_many_points(self, seed, corners, size, offset):
        random = np.random.default_rng(seed)
        shape = offset + size * random.normal(size=(corners, 2))
        # Corners, points at the height of a corner, and points beside the outline, where a shortcut would show.
        beside = np.repeat(shape, 5, axis=0) + size * random.normal(scale=1e-6, size=(5 * corners, 2))
        level = np.stack([shape[:, 0] + size * random.normal(size=corners), shape[:, 1]], axis=1)
        where = np.concatenate([offset + size * random.normal(size=(2000, 2)), shape, beside, level])
        np.testing.assert_array_equal(inside_polygon(where, shape), _even_odd(where, shape))

    @pytest.mark.parametrize(
        "polygon", [np.empty((0, 2)), [[0, 0]], [[-1, -1], [1, 1]], [[0, 0]] * 5, [[-1, 0], [1, 0], [2, 0]]]
    )
    def test_what_has_no_area_holds_nothing(self, polygon):
        assert not inside_polygon(points(), polygon).any()

    def test_points_that_are_nowhere_are_outside(self):
        where = [[np.nan, 0.5], [0.5, np.nan], [-np.inf, 0.5], [np.inf, 0.5], [0.5, np.inf], [0.5, 0.5]]
        inside = inside_polygon(where, [[0, 0], [1, 0], [1, 1], [0, 1]])
        assert inside.tolist() == [False, False, False, False, False, True]

    def test_a_corner_that_is_nowhere_is_told(self):
        with pytest.raises(ValueError, match="corner of the polygon is not finite"):
            inside_polygon([[0, 0]], [[0, 0], [1, np.nan], [1, 1]])

    def test_a_lasso_over_a_million_points_does_not_freeze_the_window(self):
        random = np.random.default_rng(0)
        where = random.normal(size=(1_000_000, 2))
        angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        lasso = (1.5 + 0.3 * np.sin(7 * angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        start = time.process_time()
        inside = inside_polygon(where, lasso)
        # 0.1 s where it was measured, 2.5 s without sorting.
        assert time.process_time() - start < 1.0
        np.testing.assert_array_equal(inside[::1000], _even_odd(where[::1000], lasso))


class TestPath:
    def test_a_stroke_has_round_ends(self):
        near = near_path([[0, 1], [2, -1], [-0.7, 0.7], [-0.8, 0.8], [1, 1.01], [3.01, 0]], [[0, 0], [2, 0]], 1.0)
        assert near.tolist() == [True, True, True, False, False, False]

    @pytest.mark.parametrize("path", [[[1, 1]], [[1, 1], [1, 1]]])
    def test_one_place_is_a_dab(self, path):
        assert near_path([[1, 3], [1, 3.1], [1, 1]], path, 2.0).tolist() == [True, False, True]

    @given(st.lists(corner, min_size=1, max_size=8), st.floats(0.1, 6), scale)
    @settings(deadline=None, max_examples=100)
    def test_it_is_the_distance_to_the_nearest_of_many_places_on_it(self, path, radius, by):
        places, steps = np.array(path, float), np.linspace(0, 1, 400)[:, None]
        dense = np.concatenate([places[:1], *(a + steps * (b - a) for a, b in pairwise(places))])
        distance = np.hypot(*(points()[:, None] - dense).T).min(axis=0)
        clear = abs(distance - radius) > 0.05
        near = near_path(points() * by, places * by, radius * by)
        np.testing.assert_array_equal(near[clear], (distance <= radius)[clear])

    def test_nothing_to_ask_nothing_drawn_and_nowhere(self):
        assert near_path(np.empty((0, 2)), [[0, 0], [1, 0]], 1.0).shape == (0,)
        assert not near_path([[0, 0]], np.empty((0, 2)), 1.0).any()
        assert near_path([[np.nan, 0], [0, np.inf], [0, 0]], [[0, 0], [1, 0]], 1.0).tolist() == [False, False, True]

    def test_what_cannot_be_drawn_is_told(self):
        with pytest.raises(ValueError, match="point of the path is not finite"):
            near_path([[0, 0]], [[0, np.nan]], 1.0)
        for radius in (-1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="radius must be finite and not negative"):
                near_path([[0, 0]], [[0, 0]], radius)


class TestHistory:
    def test_there_and_back(self):
        a, b = Selection("A", np.array([1])), Selection("B", np.array([2]))
        history = History(None)
        assert history.present is None
        assert (history.can_undo, history.can_redo) == (False, False)
        history.push(a)
        history.push(b)
        assert (history.present, history.can_undo, history.can_redo) == (b, True, False)
        assert history.undo() is a
        assert (history.can_undo, history.can_redo) == (True, True)
        assert history.undo() is None
        assert history.undo() is None
        assert (history.can_undo, history.can_redo) == (False, True)
        assert history.redo() is a
        assert history.redo() is b
        assert history.redo() is b

    def test_a_new_step_forgets_what_was_undone(self):
        a, b, c = (Selection(name, np.array([1])) for name in "ABC")
        history = History(a)
        history.push(b)
        history.undo()
        history.push(c)
        assert not history.can_redo
        assert history.redo() is c
        assert history.undo() is a

    def test_nothing_selected_is_a_step_like_any_other(self):
        history = History(Selection("A", np.array([1])))
        history.push(None)
        assert history.present is None
        assert history.undo() is not None

    def test_only_so_many_are_kept(self):
        history = History(None)
        for i in range(History.LIMIT + 50):
            history.push(Selection(str(i), np.array([i])))
        steps = 0
        while history.can_undo:
            history.undo()
            steps += 1
        assert steps == History.LIMIT - 1
        assert history.present is not None
        assert history.present.name == "50"

    @given(st.lists(st.sampled_from(["push", "undo", "redo"]), max_size=40))
    @settings(deadline=None, max_examples=60)
    def test_it_is_a_list_and_a_place_in_it(self, moves):
        history, steps, at = History(None), [None], 0
        for i, move in enumerate(moves):
            if move == "push":
                steps, at = [*steps[: at + 1], Selection(str(i), np.array([i]))], at + 1
                history.push(steps[-1])
            else:
                at = min(max(at + (1 if move == "redo" else -1), 0), len(steps) - 1)
                assert getattr(history, move)() is steps[at]
            assert history.present is steps[at]
            assert (history.can_undo, history.can_redo) == (at > 0, at < len(steps) - 1)


def _even_odd(p: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return which points are inside, every edge against every point: what `inside_polygon` must be equal to."""
    inside = np.zeros(len(p), dtype=bool)
    if len(polygon) < 3:
        return inside
    for start, stop in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = (start, stop) if start[1] <= stop[1] else (stop, start)
        if y0 != y1:
            crosses = (y0 <= p[:, 1]) & (p[:, 1] < y1)
            with np.errstate(over="ignore"):  # of points far above an edge that they do not cross
                inside ^= crosses & (p[:, 0] < x0 + (p[:, 1] - y0) / (y1 - y0) * (x1 - x0))
    return inside


def _side(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (b[0] - a[0]) * (p[:, 1] - a[1]) - (b[1] - a[1]) * (p[:, 0] - a[0])
