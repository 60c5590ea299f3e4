from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from molecules import molecule

from napari_disentangle.averaging import average, fsc, resolution
from napari_disentangle.averaging.points import sphere
from napari_disentangle.geometry import random_rotations
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose


@pytest.mark.parametrize("n", [16, 17])
def test_of_identical_maps_is_one(n: int) -> None:
    volume = np.random.default_rng(0).standard_normal((n, n, n)).astype(np.float32)
    frequency, correlation = fsc(volume, 2 * volume, 5.0)
    assert correlation == pytest.approx(1)
    assert frequency[-1] == pytest.approx((n // 2) / (5.0 * n))
    assert resolution(frequency, correlation) == pytest.approx(1 / frequency[-1])


def test_of_noise_is_about_zero() -> None:
    one, two = np.random.default_rng(0).standard_normal((2, 32, 32, 32)).astype(np.float32)
    frequency, correlation = fsc(one, two, 5.0)
    assert np.abs(correlation[4:]).max() < 0.15
    assert abs(correlation[4:].mean()) < 0.05
    assert (resolution(frequency, correlation) or 160) >= 40


def test_a_mask_adds_no_agreement_of_its_own() -> None:
    one, two = np.random.default_rng(0).standard_normal((2, 24, 24, 24)).astype(np.float32)
    _, plain = fsc(one, two, 5.0, sphere(24, 8, soft=2.0))
    _, raised = fsc(one + 5, two - 3, 5.0, sphere(24, 8, soft=2.0))
    np.testing.assert_allclose(raised, plain, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 3.0, 100.0])
def test_a_grey_level_is_no_agreement(offset: float) -> None:
    """Of noise in boxes that are not of mean 0, at any poses: neither the mask nor the boxes' edges are in both."""
    rng = np.random.default_rng(0)
    n, count = 24, 60
    boxes = (rng.standard_normal((count, n, n, n)) + offset).astype(np.float32)
    particles = ParticleSet(Path("noise.mrcs"), np.arange(count), volumes=ArrayVolumes(boxes), voxel_size=10.0)
    pose = Pose(random_rotations(count, rng), rng.uniform(-20, 20, (count, 3)))
    found = average(particles, pose, mode="fixed")
    assert np.abs(found.fsc[2:]).max() < 0.4
    assert np.abs(found.fsc[2:].mean()) < 0.1
    assert found.resolution_A is None or found.resolution_A >= 80


def test_of_half_signal_half_noise_is_a_half() -> None:
    signal, one, two = np.random.default_rng(0).standard_normal((3, 32, 32, 32)).astype(np.float32)
    _, correlation = fsc(signal + one, signal + two, 5.0)
    assert correlation[5:].mean() == pytest.approx(0.5, abs=0.04)


def test_an_empty_shell_does_not_agree() -> None:
    _, correlation = fsc(np.zeros((8, 8, 8), np.float32), molecule(8), 5.0)
    assert correlation.tolist() == [1, 0, 0, 0, 0]


def test_resolution_is_read_between_shells() -> None:
    frequency = np.array([0.0, 0.01, 0.02, 0.03])
    assert resolution(frequency, np.array([1, 1, 0.243, 0.043])) == pytest.approx(1 / 0.025)
    assert resolution(frequency, np.array([1, 0.1, 0, 0])) is None
