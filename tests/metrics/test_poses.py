"""Pose errors: one rigid motion and the symmetry are free, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle.geometry import euler_to_matrix, geodesic_angle, random_rotations, symmetry_matrices
from napari_disentangle.metrics import (
    align_frame,
    chance_errors,
    shift_errors,
)


def small_turns(n: int, degrees: float, rng: np.random.Generator) -> np.ndarray:
    rot = rng.uniform(0, 360, n)
    return euler_to_matrix(np.stack([rot, np.full(n, degrees), -rot], axis=1))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), symmetry=st.sampled_from(["C1", "C3", "C7:z", "D2", "C5:1,2,3", "O"]))
def test_one_rigid_motion_and_symmetry_are_free(seed: int, symmetry: str) -> None:
    rng = np.random.default_rng(seed)
    true, (frame,) = random_rotations(30, rng), random_rotations(1, rng)
    copies = symmetry_matrices(symmetry)
    estimates = true @ copies[rng.integers(len(copies), size=30)] @ frame.T
    result = align_frame(estimates, true, symmetry)
    np.testing.assert_allclose(result.errors, 0, atol=1e-4)
    assert geodesic_angle(result.frame, frame @ copies).min() < 1e-4


def test_errors_are_geodesic_angles() -> None:
    rng = np.random.default_rng(1)
    true, (frame,) = random_rotations(300, rng), random_rotations(1, rng)
    errors = align_frame(true @ small_turns(300, 10, rng) @ frame, true).errors
    assert abs(np.median(errors) - 10) < 1


def test_the_motion_is_found_although_a_third_of_the_poses_are_wild() -> None:
    rng = np.random.default_rng(2)
    true, (frame,) = random_rotations(90, rng), random_rotations(1, rng)
    estimates = true @ small_turns(90, 4, rng) @ frame
    estimates[:30] = random_rotations(30, rng)
    result = align_frame(estimates, true)
    assert np.median(result.errors[30:]) < 4.5
    assert geodesic_angle(result.frame, frame.T) < 2


def test_a_wrong_hand_and_permuted_poses_are_as_bad_as_chance() -> None:
    rng = np.random.default_rng(3)
    true = random_rotations(200, rng)
    mirror = np.diag([1.0, 1.0, -1.0])
    assert np.median(align_frame(mirror @ true @ mirror, true).errors) > 60
    assert np.median(chance_errors(true, true)) > 90
    assert np.median(chance_errors(true, true, "C7")) < np.median(chance_errors(true, true)) - 10


def test_symmetric_copies_do_not_hide_the_motion() -> None:
    rng = np.random.default_rng(6)
    true, (frame,) = random_rotations(90, rng), random_rotations(1, rng)
    estimates = true @ symmetry_matrices("O")[rng.integers(24, size=90)] @ small_turns(90, 4, rng) @ frame
    estimates[:30] = random_rotations(30, rng)
    assert np.median(align_frame(estimates, true, "O").errors[30:]) < 4.5


def test_symmetry_must_be_told() -> None:
    rng = np.random.default_rng(4)
    true = random_rotations(70, rng)
    estimates = true @ symmetry_matrices("C7")[np.arange(70) % 7]
    assert np.median(align_frame(estimates, true, "C7").errors) < 1e-3
    assert np.median(align_frame(estimates, true).errors) > 30


def test_an_offset_of_the_canonical_frame_is_free_but_nothing_else() -> None:
    rng = np.random.default_rng(5)
    true, shifts = random_rotations(80, rng), rng.uniform(-20, 20, (80, 3))
    frame, offset = random_rotations(1, rng)[0], np.array([12.0, -5.0, 30.0])
    estimates = true @ symmetry_matrices("C7")[rng.integers(7, size=80)] @ frame
    found = shifts - estimates @ offset
    np.testing.assert_allclose(shift_errors(estimates, found, shifts), 0, atol=1e-6)
    found[:20] += 100
    assert np.median(shift_errors(estimates, found, shifts)[20:]) < 1
    assert shift_errors(estimates, found, shifts)[:20].min() > 150
    assert np.median(shift_errors(estimates, found + np.array([0, 0, 15.0]), shifts)) > 5  # not in the particle's frame
