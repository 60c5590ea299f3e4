"""The first look at particles: boxes as they lie, which are whose, and the sign of protein."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles
from napari_disentangle.io.boxes import BoxShape
from napari_disentangle.io.mrc import open_map, read_header, write_volume
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Tomogram
from napari_disentangle.preview import AVERAGED, SHOWN, box_for, preview
from napari_disentangle.sample import DIAMETER, write_sample_tomogram

if TYPE_CHECKING:
    from pathlib import Path

    from napari_disentangle.simulate import SimulatedTomogram


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> SimulatedTomogram:
    return write_sample_tomogram(tmp_path_factory.mktemp("sample") / "tomogram")


def blob(n: int, centre: tuple[int, int, int], width: float = 2.0) -> np.ndarray:
    """A bright ball in a cube of n voxels, at a place in voxels, zyx."""
    z, y, x = np.ogrid[:n, :n, :n]
    r2 = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return np.exp(-r2 / (2 * width**2)).astype(np.float32)


def in_boxes(boxes: np.ndarray, tmp_path: Path, voxel_size: float | None = 10.0) -> ParticleSet:
    """Particles whose ids are 100, 101 and so on."""
    return ParticleSet(tmp_path / "list.star", np.arange(len(boxes)) + 100, ArrayVolumes(boxes), voxel_size)


def picked(path: Path, voxels: list[tuple[int, int, int]], voxel_size: float = 10.0) -> ParticleSet:
    """Particles at places in voxels, xyz, of one tomogram."""
    return ParticleSet(
        path.with_name("picks.star"), np.arange(len(voxels)) + 100,
        positions=np.array(voxels, dtype=np.float64) * voxel_size, tomogram=np.zeros(len(voxels), np.int64),
        tomograms=(Tomogram("t", path, voxel_size=voxel_size),),
    )  # fmt: skip


class TestBox:
    @pytest.mark.parametrize(
        ("diameter", "voxel_size", "box"),
        [
            (200, 10, BoxShape(32)),  # the sample
            (150, 10, BoxShape(24)),
            (155, 10, BoxShape(26)),  # 24.8 voxels: up to the next even number
            (100, 10, BoxShape(16)), (50, 10, BoxShape(16)), (1, 10, BoxShape(16)),  # never fewer than 16
            (400, 10, BoxShape(32, 2.0)), (250, 5, BoxShape(32, 2.5)), (201, 10, BoxShape(32, 1.005)),
        ],
    )  # fmt: skip
    def test_sizes(self, diameter, voxel_size, box):
        assert box_for(diameter, voxel_size) == box

    @given(st.floats(20, 2000), st.floats(1, 20))
    @settings(deadline=None, max_examples=100)
    def test_it_holds_the_particle_in_16_to_32_voxels_that_are_even(self, diameter, voxel_size):
        box = box_for(diameter, voxel_size)
        assert 16 <= box.size <= 32
        assert box.size % 2 == 0
        assert box.bin >= 1
        assert box.binned == (1.6 * diameter / voxel_size > 32 * 1.0005)
        edge = box.size * box.bin * voxel_size
        assert edge >= 1.6 * diameter * 0.999
        assert edge <= max(1.6 * diameter + 2 * voxel_size, 16 * voxel_size * 1.001)


class TestBoxes:
    def test_boxes_of_a_list(self, tiny_stack):
        particles = read_particles(tiny_stack)
        found = preview(particles, diameter=None)
        assert found.slices.shape == (SHOWN, 16, 16)
        assert found.mean.shape == (16, 16)
        assert (found.voxel_size, found.dark) == (20.0, False)
        assert len(np.unique(found.ids)) == SHOWN
        assert set(found.ids.tolist()) <= set(particles.ids.tolist())
        assert np.isfinite(found.slices).all()

    def test_each_slice_is_of_the_particle_it_is_named_after(self, tmp_path):
        """Particle 100 + k has its ball at y = 4 + k."""
        boxes = np.stack([blob(32, (16, 4 + k, 20)) for k in range(24)])
        found = preview(in_boxes(boxes, tmp_path), diameter=None)
        for one, piece in zip(found.ids, found.slices, strict=True):
            assert np.unravel_index(piece.argmax(), piece.shape) == (4 + one - 100, 20)

    def test_the_mean_is_of_more_than_are_shown_and_central(self, tmp_path):
        """Half of the balls lie off the centre, to four sides, in boxes that are as many as are averaged."""
        sides = [(16, 16, 16)] * 4 + [(16, 16, 8), (16, 16, 24), (16, 8, 16), (16, 24, 16)]
        boxes = np.stack([blob(32, sides[k % 8]) for k in range(AVERAGED)])
        found = preview(in_boxes(boxes, tmp_path), diameter=None)
        assert np.unravel_index(found.mean.argmax(), found.mean.shape) == (16, 16)
        around = [found.mean[16, 8], found.mean[16, 24], found.mean[8, 16], found.mean[24, 16]]
        np.testing.assert_allclose(around, found.mean[16, 16] / 4, rtol=0.1)

    def test_fine_detail_is_blurred_away(self, tmp_path):
        """Of white noise at 10 A per voxel a quarter is left at 30 A, of a ball of 100 A nearly all."""
        noise = np.random.default_rng(0).standard_normal((20, 32, 32, 32)).astype(np.float32)
        assert preview(in_boxes(noise, tmp_path), diameter=None).slices.std() == pytest.approx(0.27, abs=0.03)
        balls = np.stack([blob(32, (16, 16, 16), 5.0)] * 20)
        assert preview(in_boxes(balls, tmp_path), diameter=None).slices.std() > 0.8

    def test_boxes_of_any_grey_values_count_alike(self, tmp_path):
        balls = np.stack([blob(32, (16, 16, 16))] * 20)
        scaled = balls * np.linspace(1e-3, 1e5, 20, dtype=np.float32)[:, None, None, None] - 300
        one, other = (preview(in_boxes(b, tmp_path), diameter=None) for b in (balls, scaled))
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-2)

    def test_the_choice_is_the_same_every_time_and_the_seeds(self, tiny_stack):
        particles = read_particles(tiny_stack)
        a, b, c = (preview(particles, diameter=None, seed=seed).ids.tolist() for seed in (0, 0, 1))
        assert a == b
        assert a != c

    def test_broken_boxes_are_left_out(self, tmp_path):
        boxes = np.stack([blob(16, (8, 8, 8))] * 20)
        boxes[::2, 3, 4, 5] = [np.nan, np.inf] * 5
        found = preview(in_boxes(boxes, tmp_path), diameter=None)
        assert sorted(found.ids.tolist()) == list(range(101, 120, 2))
        boxes[:, 0, 0, 0] = np.nan
        with pytest.raises(InputError, match="holds numbers only"):
            preview(in_boxes(boxes, tmp_path), diameter=None)

    def test_an_empty_box_does_no_harm(self, tmp_path):
        boxes = np.stack([blob(16, (8, 8, 8))] * 9 + [np.full((16, 16, 16), 7.0, np.float32)])
        found = preview(in_boxes(boxes, tmp_path), diameter=None)
        assert np.isfinite(found.slices).all()
        assert not found.slices[found.ids.tolist().index(109)].any()

    @pytest.mark.parametrize("shape", [(9, 16, 16), (9, 16, 16, 3)])
    def test_images_are_shown_as_they_are(self, tmp_path, shape):
        images = np.random.default_rng(0).random(shape).astype(np.float32)
        found = preview(in_boxes(images, tmp_path, None), diameter=None)
        rows = found.ids - 100
        assert (found.voxel_size, found.resolution, found.dark) == (None, None, False)
        shown = images[rows] if len(shape) == 3 else images[rows].mean(-1)
        for one, expected in zip(found.slices, shown, strict=True):
            np.testing.assert_allclose(np.corrcoef(one.ravel(), expected.ravel())[0, 1], 1, atol=1e-5)
        np.testing.assert_allclose(found.mean, found.slices.mean(0), atol=1e-5)

    def test_boxes_of_unknown_size_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="--voxel-size"):
            preview(in_boxes(np.zeros((9, 16, 16, 16), np.float32), tmp_path, None), diameter=None)


class TestSign:
    def test_bright_and_dark_boxes_are_told_apart(self, tiny_stack):
        particles = read_particles(tiny_stack)
        assert not preview(particles, diameter=None).dark
        turned = preview(particles.inverted(), diameter=None)
        assert turned.dark
        np.testing.assert_allclose(turned.mean, -preview(particles, diameter=None).mean, atol=1e-6)

    def test_so_are_tomograms_at_an_snr_of_a_tenth(self, sample, tmp_path):
        particles = read_particles(sample.optimisation_set)
        assert not preview(particles, diameter=DIAMETER).dark
        volume = open_map(read_header(sample.tomogram))
        write_volume(tmp_path / "dark.mrc", -volume, 10.0)
        tomograms = tuple(replace(t, path=tmp_path / "dark.mrc") for t in particles.tomograms)
        assert preview(replace(particles, tomograms=tomograms), diameter=DIAMETER).dark


class TestPositions:
    def test_boxes_are_cut_where_the_list_says(self, sample):
        particles = read_particles(sample.optimisation_set)
        assert particles.volumes is None
        found = preview(particles, diameter=DIAMETER)
        assert found.slices.shape == (SHOWN, 32, 32)
        assert found.voxel_size == 10.0
        assert set(found.ids.tolist()) <= set(particles.ids.tolist())
        finer = preview(particles, diameter=100)
        assert finer.mean.shape == (16, 16)
        binned = preview(particles, diameter=300)
        assert binned.mean.shape == (32, 32)
        assert binned.voxel_size == pytest.approx(15)

    @pytest.mark.parametrize("diameter", [100, 320])
    def test_a_particle_is_in_the_middle_of_its_box(self, tmp_path, diameter):
        """Also where boxes are binned; x, y and z are not taken for one another."""
        places = [(40, 52, 60), (70, 45, 52)]
        volume = sum(blob(100, place[::-1], 3.0) for place in places)
        write_volume(tmp_path / "t.mrc", volume, 10.0)
        found = preview(picked(tmp_path / "t.mrc", places), diameter=diameter)
        middle = found.mean.shape[-1] // 2
        for piece in (found.mean, *found.slices):
            assert np.unravel_index(piece.argmax(), piece.shape) == (middle, middle)

    def test_those_at_the_edge_are_passed_over(self, tmp_path):
        volume = np.random.default_rng(0).standard_normal((40, 40, 40)).astype(np.float32)
        write_volume(tmp_path / "t.mrc", volume, 10.0)
        places = [(20, 20, 20), (7, 20, 20), (8, 20, 20), (20, 33, 20), (20, 20, 32), (20, 200, 20), (-30, 20, 20)]
        found = preview(picked(tmp_path / "t.mrc", places), diameter=100)
        assert sorted(found.ids.tolist()) == [100, 102, 104]

    def test_where_none_fits_a_sentence_says_what_to_check(self, tmp_path, sample):
        write_volume(tmp_path / "t.mrc", np.zeros((40, 40, 40), np.float32), 10.0)
        with pytest.raises(InputError, match=r"no box of 160 A lies inside its tomogram; check the diameter"):
            preview(picked(tmp_path / "t.mrc", [(2, 2, 2)]), diameter=100)
        with pytest.raises(InputError, match="no box of 1600 A lies inside"):
            preview(read_particles(sample.optimisation_set), diameter=1000)

    def test_without_a_diameter_it_is_asked_for(self, sample):
        with pytest.raises(InputError, match="lists positions, not boxes; give the particle's diameter"):
            preview(read_particles(sample.optimisation_set), diameter=None)

    def test_tomograms_that_are_not_there(self, sample):
        particles = read_particles(sample.optimisation_set)
        absent = tuple(replace(t, path=None) for t in particles.tomograms)
        with pytest.raises(InputError, match="none of its tomograms was found"):
            preview(replace(particles, tomograms=absent), diameter=DIAMETER)
        with pytest.raises(InputError, match="the boxes are on another disk"):
            preview(replace(particles, tomograms=absent, no_boxes="the boxes are on another disk"), diameter=DIAMETER)

    def test_particles_of_a_tomogram_that_is_not_there_are_passed_over(self, tmp_path):
        volume = np.random.default_rng(0).standard_normal((40, 40, 40)).astype(np.float32)
        write_volume(tmp_path / "t.mrc", volume, 10.0)
        particles = picked(tmp_path / "t.mrc", [(20, 20, 20)] * 4)
        particles = replace(
            particles, tomograms=(*particles.tomograms, Tomogram("gone")), tomogram=np.array([0, 1, 0, 1])
        )
        assert sorted(preview(particles, diameter=100).ids.tolist()) == [100, 102]
