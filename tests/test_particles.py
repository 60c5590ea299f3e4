"""A particle set keeps its rows together, and finds them by id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose, Tomogram


def some(n: int = 6) -> ParticleSet:
    """Every array holds the id of its row somewhere."""
    ids = np.arange(n) * 3 + 1
    return ParticleSet(
        path=Path("list.star"), ids=ids,
        volumes=ArrayVolumes(np.ones((n, 2, 2, 2)) * ids[:, None, None, None]),
        voxel_size=10.0, text="data_", pose=Pose(np.eye(3) * ids[:, None, None], np.ones((n, 3)) * ids[:, None]),
        positions=np.ones((n, 3)) * ids[:, None], tomogram=ids % 2, halves=ids, prior=np.ones((n, 2)) * ids[:, None],
        defocus=ids.astype(float), frames=np.eye(3) * ids[:, None, None],
        tomograms=(Tomogram("a", tilt_range=(-60, 50)), Tomogram("b")),
    )  # fmt: skip


class TestSubset:
    @given(st.lists(st.integers(0, 5), max_size=9))
    @settings(deadline=None, max_examples=40)
    def test_every_array_follows_its_id(self, rows):
        found = some().subset(np.array(rows, dtype=np.int64))
        ids = found.ids
        assert len(found) == len(rows)
        np.testing.assert_array_equal(ids, np.array(rows, dtype=np.int64) * 3 + 1)
        assert found.volumes is not None
        np.testing.assert_array_equal(found.volumes.read(np.arange(len(rows)))[:, 0, 0, 0], ids)
        assert found.pose is not None
        for values in (
            found.pose.rotations[:, 0, 0], found.pose.offsets[:, 0], found.positions[:, 0], found.halves, found.prior[:, 0],
            found.defocus, found.frames[:, 0, 0],
        ):  # fmt: skip
            np.testing.assert_array_equal(values, ids)
        np.testing.assert_array_equal(found.tomogram, ids % 2)
        assert (found.text, found.voxel_size, len(found.tomograms)) == ("data_", 10.0, 2)

    def test_what_is_absent_stays_absent(self):
        bare = ParticleSet(Path("a.mrcs"), np.arange(3)).subset(np.array([2]))
        assert (bare.volumes, bare.pose, bare.positions, bare.tomogram, bare.frames) == (None,) * 5

    def test_volumes_are_float32_whatever_they_were(self):
        volumes = ArrayVolumes(np.arange(16, dtype=np.int8).reshape(2, 2, 2, 2))
        assert volumes.read(np.array([1])).dtype == np.float32
        assert volumes.subset(np.array([1])).shape == (1, 2, 2, 2)


class TestRows:
    def test_ids_are_found_in_any_order_and_more_than_once(self):
        particles = some().subset(np.array([5, 0, 3]))
        np.testing.assert_array_equal(particles.rows_of(np.array([10, 16, 10, 1])), [2, 0, 2, 1])

    @pytest.mark.parametrize("ids", [[2], [1, 17], [-1], [100]])
    def test_an_id_that_is_not_there_is_an_error(self, ids):
        with pytest.raises(KeyError):
            some().rows_of(np.array(ids))

    def test_empty_sets(self):
        empty = some().subset(np.array([], dtype=np.int64))
        assert len(empty.rows_of(np.array([], dtype=np.int64))) == 0
        with pytest.raises(KeyError):
            empty.rows_of(np.array([1]))


class TestTilts:
    def test_a_tomograms_own_range_comes_first_and_the_rest_miss_nothing(self):
        ranges = some().tilt_ranges()
        assert ranges is not None
        odd = some().ids % 2 == 1
        assert (ranges[~odd] == (-60, 50)).all()
        assert (ranges[odd] == (-90, 90)).all()

    def test_the_sets_range_is_for_those_without(self):
        ranges = replace(some(), tilt_range=(-45.0, 45.0)).tilt_ranges()
        assert ranges is not None
        assert {tuple(r) for r in ranges} == {(-60.0, 50.0), (-45.0, 45.0)}

    def test_nothing_known_is_none(self):
        bare = ParticleSet(Path("a.mrcs"), np.arange(3))
        assert bare.tilt_ranges() is None
        assert replace(bare, tilt_range=(-90.0, 90.0)).tilt_ranges() is None, "and so is nothing missing"
        assert some().without_tilt_ranges().tilt_ranges() is None


class TestInverted:
    def test_dark_and_bright_are_exchanged_and_all_else_stays(self):
        particles = some()
        turned = particles.inverted()
        np.testing.assert_array_equal(turned.volumes.read(np.array([2, 0]))[:, 0, 0, 0], [-7, -1])
        assert turned.volumes.shape == particles.volumes.shape
        assert turned.volumes.read(np.array([0])).dtype == np.float32
        assert turned.pose is particles.pose
        np.testing.assert_array_equal(turned.ids, particles.ids)
        np.testing.assert_array_equal(particles.volumes.read(np.array([2]))[:, 0, 0, 0], [7])

    def test_it_stays_with_a_subset_and_twice_is_not_at_all(self):
        part = some().inverted().subset(np.array([4, 1]))
        np.testing.assert_array_equal(part.volumes.read(np.array([0, 1]))[:, 0, 0, 0], [-13, -4])
        assert part.volumes.shape == (2, 2, 2, 2)
        np.testing.assert_array_equal(part.inverted().volumes.read(np.array([0]))[:, 0, 0, 0], [13])

    def test_without_boxes_there_is_nothing_to_turn(self):
        bare = ParticleSet(Path("a.star"), np.arange(3))
        assert bare.inverted() is bare
