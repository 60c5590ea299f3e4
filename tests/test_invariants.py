"""Shell power is plain physics: it knows amplitudes per frequency and nothing of where things are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_disentangle.errors import InputError
from napari_disentangle.fourier import wedge_mask
from napari_disentangle.geometry import place_volumes, random_rotations
from napari_disentangle.invariants import invariants, ring_power, shell_count, shell_power
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Tomogram


def particles(volumes: np.ndarray, **more: object) -> ParticleSet:
    return ParticleSet(Path("stack.mrcs"), np.arange(len(volumes)), ArrayVolumes(volumes), **more)  # type: ignore[arg-type]


def noise(count: int, n: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, n, n, n), dtype=np.float32)


def wave(n: int, cycles: tuple[int, int, int]) -> np.ndarray:
    x = np.arange(n)
    z, y, x = np.meshgrid(x, x, x, indexing="ij")
    return np.cos(2 * np.pi * (cycles[0] * z + cycles[1] * y + cycles[2] * x) / n).astype(np.float32)


@pytest.mark.parametrize(
    ("cycles", "shell"), [((0, 0, 1), 1), ((3, 0, 0), 3), ((0, 4, 3), 5), ((0, 0, 12), 12), ((1, 1, 1), 2)]
)
def test_a_plane_wave_has_power_in_its_own_shell_only(cycles: tuple[int, int, int], shell: int) -> None:
    power = shell_power((wave(32, cycles) + 0.01 * noise(1)[0])[None])[0]
    assert power.argmax() == shell - 1
    assert power[shell - 1] - np.delete(power, shell - 1).max() > 5


def test_shells_are_means_over_the_whole_transform() -> None:
    box = noise(1)
    f = np.fft.fftfreq(32) * 32
    radius = np.rint(np.sqrt(f[:, None, None] ** 2 + f[None, :, None] ** 2 + f**2))
    power = np.abs(np.fft.fftn(box[0])) ** 2
    expected = [np.log(power[radius == s].mean()) for s in range(1, 13)]
    np.testing.assert_allclose(shell_power(box)[0], expected, rtol=1e-5)


def test_white_noise_has_the_same_power_in_every_shell_whether_or_not_a_wedge_is_missing() -> None:
    boxes = noise(64)
    full = np.exp(shell_power(boxes)).mean(0)
    np.testing.assert_allclose(full, 32**3, rtol=0.1)
    mask = wedge_mask(32, (-60, 60))
    cut = np.fft.irfftn(np.fft.rfftn(boxes, axes=(1, 2, 3)) * mask, s=(32, 32, 32), axes=(1, 2, 3))
    seen = np.exp(shell_power(cut, tilt_ranges=np.tile([-60.0, 60.0], (64, 1)))).mean(0)
    np.testing.assert_allclose(seen, 32**3, rtol=0.1)
    assert (np.exp(shell_power(cut)).mean(0)[1:] < 0.8 * 32**3).all()


def test_each_particle_is_averaged_over_its_own_wedge_and_frame() -> None:
    boxes = np.repeat(noise(1), 4, axis=0)
    quarter = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # swaps x and z: beam along x
    frames = np.stack([np.eye(3), np.eye(3), quarter, np.eye(3)])
    ranges = np.array([[-60.0, 60.0], [-40.0, 40.0], [-60.0, 60.0], [-60.0, 60.0]])
    power = shell_power(boxes, tilt_ranges=ranges, frames=frames)
    np.testing.assert_array_equal(power[0], power[3])
    assert (np.abs(power[1:3] - power[0]).max(axis=1) > 1e-3).all()
    turned = np.ascontiguousarray(boxes[:1].transpose(0, 3, 2, 1))
    np.testing.assert_allclose(shell_power(turned, tilt_ranges=ranges[:1]), power[2:3], atol=1e-5)


def test_rotation_and_shift_change_little_and_grey_level_nothing() -> None:
    z, y, x = np.meshgrid(*[np.arange(32) - 16] * 3, indexing="ij")
    blob = np.exp(-(x**2 + (0.7 * y) ** 2 + (1.2 * z) ** 2) / 40)
    blobs = torch.as_tensor(np.repeat(blob[None], 6, axis=0), dtype=torch.float32)
    rng = np.random.default_rng(1)
    rotations = torch.as_tensor(random_rotations(6, rng), dtype=torch.float32)
    moved = place_volumes(blobs, rotations, torch.as_tensor(rng.uniform(-2, 2, (6, 3)), dtype=torch.float32)).numpy()
    still, other = shell_power(blobs[:1].numpy())[0, :4], shell_power(np.sqrt(blob[None]))[0, :4]
    assert np.abs(shell_power(moved)[:, :4] - still).max() < 0.5 < np.abs(other - still).max()
    np.testing.assert_allclose(shell_power(moved + 7), shell_power(moved), atol=0.05)


@pytest.mark.parametrize(("n", "count"), [(16, 8), (24, 12), (32, 12), (33, 12), (48, 12), (64, 12)])
def test_small_boxes_have_fewer_shells_and_large_ones_thicker_shells(n: int, count: int) -> None:
    assert min(12, shell_count(n)) == count
    power = np.exp(shell_power(noise(4, n)))
    assert power.shape == (4, count)
    np.testing.assert_allclose(power.mean(0), n**3, rtol=0.5)  # also proves that no shell is empty


def test_a_box_of_twice_the_voxels_sees_the_same_frequencies() -> None:
    assert shell_power(wave(64, (0, 0, 6))[None] + 0.01 * noise(1, 64)).argmax() == 2


def test_boxes_must_be_cubes() -> None:
    with pytest.raises(InputError, match="cubic"):
        shell_power(np.zeros((2, 8, 8, 9)))
    with pytest.raises(InputError, match="cubic"):
        shell_power(np.zeros((8, 8, 8)))


def test_invariants_are_standardised_and_do_not_depend_on_the_batch() -> None:
    boxes = noise(20, 16) * np.linspace(1, 3, 20, dtype=np.float32)[:, None, None, None]
    result = invariants(particles(boxes))
    assert result.shape == (20, 8)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(0), 1, atol=1e-5)
    np.testing.assert_array_equal(invariants(particles(boxes), batch=7), result)


def test_empty_boxes_stay_finite_and_do_not_squeeze_the_others() -> None:
    boxes = noise(20, 16)
    boxes[3] = 5
    result = invariants(particles(boxes))
    assert np.isfinite(result).all()
    assert np.abs(result).max() < 6
    assert (result[3] == result.min(axis=0)).all()
    assert (invariants(particles(np.zeros((3, 16, 16, 16), np.float32))) == 0).all()
    assert np.isneginf(shell_power(np.full((1, 15, 15, 15), 0.1))).all()  # also where the FFT itself rounds


def test_each_tomogram_loses_its_median_if_it_has_enough_particles() -> None:
    boxes = noise(100, 16)
    boxes[40:80] *= 10
    boxes[80:] /= 10
    tomogram = np.repeat([0, 1, 2], [40, 40, 20])
    tomograms = tuple(Tomogram(name) for name in "abc")
    raw = invariants(particles(boxes))
    assert raw[40:80].min() > raw[:40].max()
    one = invariants(particles(boxes, tomogram=np.zeros(100, np.int64), tomograms=tomograms[:1]))
    np.testing.assert_array_equal(one, raw)
    result = invariants(particles(boxes, tomogram=tomogram, tomograms=tomograms))
    np.testing.assert_allclose(np.median(result[:40], axis=0), np.median(result[40:80], axis=0), atol=1e-5)
    assert result[80:].max() < result[:80].min()  # too few for a median of their own


def test_the_wedge_of_the_tomogram_is_used() -> None:
    boxes = noise(8, 16)
    known = particles(boxes, tilt_range=(-40.0, 40.0))
    assert np.abs(invariants(known) - invariants(particles(boxes))).max() > 0.1
    turned = replace(known, frames=np.tile([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], (8, 1, 1)))
    assert np.abs(invariants(known) - invariants(turned)).max() > 0.1


def test_broken_particles_are_named_and_missing_boxes_are_said() -> None:
    boxes = noise(6, 8)
    boxes[4, 1, 2, 3] = np.nan
    broken = replace(particles(boxes), ids=np.arange(6) + 10)
    with pytest.raises(InputError, match="particle 14"):
        invariants(broken)
    with pytest.raises(InputError, match="extract"):
        invariants(replace(broken, volumes=None))


def test_rings_of_images_do_not_turn_or_shift_and_tell_sizes_apart():
    y, x = np.mgrid[-16:16, -16:16]
    small, large = (np.exp(-(x**2 + (y / 2) ** 2) / size) for size in (4.0, 12.0))
    images = np.stack([small, small.T, np.roll(small, (3, -2), (0, 1)), large]).astype(np.float32)
    power = ring_power(images)
    assert power.shape == (4, 16)
    np.testing.assert_allclose(power[1:3, :6], np.tile(power[0, :6], (2, 1)), atol=1e-3)
    assert np.abs(power[3, :6] - power[0, :6]).max() > 1
    coloured = replace(particles(np.zeros((4, 8, 8, 8))), volumes=ArrayVolumes(np.repeat(images[..., None], 3, -1)))
    found = invariants(coloured)
    np.testing.assert_allclose(found, invariants(replace(coloured, volumes=ArrayVolumes(images))), atol=1e-4)
    np.testing.assert_allclose(found[:, :6].mean(0), 0, atol=1e-5)


def test_an_image_with_nothing_in_it_has_a_place_too():
    images = np.random.default_rng(0).random((3, 12, 12)).astype(np.float32)
    images[1] = 0.5
    assert np.isfinite(ring_power(images)).all()
