from __future__ import annotations

import numpy as np
import pytest
import torch
from molecules import molecule, place
from scipy.spatial.transform import Rotation

from napari_disentangle.averaging.match import match_volume, onto, shift_grid
from napari_disentangle.averaging.points import Sphere, sphere
from napari_disentangle.geometry import align_volumes, geodesic_angle, place_volumes, random_rotations


@pytest.mark.parametrize("seed", [0, 1])
def test_finds_a_rigid_motion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation, shift = random_rotations(1, rng), rng.uniform(-1.5, 1.5, (1, 3))
    moved = place(molecule(), rotation, shift)[0]
    match = match_volume(moved, molecule(), radius=8)
    assert geodesic_angle(match.rotation, rotation[0]) < 1.5
    assert match.shift == pytest.approx(shift[0], abs=0.15)
    assert match.correlation > 0.99


def test_a_gpu_finds_the_same(gpu: str) -> None:
    rotation, shift = random_rotations(1, np.random.default_rng(0)), np.array([[1.0, -0.5, 0.2]])
    match = match_volume(place(molecule(), rotation, shift)[0], molecule(), radius=8, device=gpu)
    assert geodesic_angle(match.rotation, rotation[0]) < 1.5
    assert match.correlation > 0.99


def test_in_a_sphere_volumes_are_moved_as_in_a_box() -> None:
    inside, rng = Sphere.of(20, 8, "cpu"), np.random.default_rng(0)
    volume, turns = torch.as_tensor(molecule()), torch.as_tensor(random_rotations(3, rng)).float()
    moves = torch.as_tensor(rng.uniform(-2, 2, (3, 3))).float()
    whole = align_volumes(volume.expand(3, 20, 20, 20), turns, moves)
    torch.testing.assert_close(inside.aligned(volume, turns, moves), inside.of_volumes(whole), atol=1e-5, rtol=1e-5)
    whole = place_volumes(volume.expand(3, 20, 20, 20), turns, torch.zeros(3, 3))
    torch.testing.assert_close(inside.placed(volume, turns), inside.of_volumes(whole), atol=1e-5, rtol=1e-5)


def test_keeps_the_hand() -> None:
    match = match_volume(np.ascontiguousarray(molecule()[..., ::-1]), molecule(), radius=8)
    assert np.linalg.det(match.rotation) == pytest.approx(1)
    assert match.correlation < 0.96


def test_a_volume_matches_itself_where_it_is() -> None:
    match = match_volume(molecule(), molecule(), radius=8)
    assert match.correlation == pytest.approx(1, abs=1e-3)
    assert geodesic_angle(match.rotation, np.eye(3)) < 0.5


def test_beside_given_rotations_no_other_is_looked_for() -> None:
    turn = Rotation.from_euler("y", 100, degrees=True).as_matrix()
    moved = place(molecule(), turn[None], np.zeros((1, 3)))[0]
    assert match_volume(moved, molecule(), radius=8, starts=np.eye(3)[None]).correlation < 0.9
    starts = Rotation.from_euler("y", np.arange(0.0, 360.0, 30.0)[:, None], degrees=True).as_matrix()
    match = match_volume(moved, molecule(), radius=8, starts=starts)
    assert geodesic_angle(match.rotation, turn) < 1.5
    assert match.correlation > 0.99


def test_blur_is_no_gain() -> None:
    """A noisy map's best match with itself, clean, is where it lies: an interpolated copy would be smoother."""
    rng = np.random.default_rng(0)
    noisy = molecule() + rng.standard_normal((20, 20, 20)).astype(np.float32) * 0.15
    inside = sphere(20, 8) > 0
    plain = np.corrcoef(noisy[inside], molecule()[inside])[0, 1]
    assert match_volume(noisy, molecule(), radius=8).correlation == pytest.approx(plain, abs=0.01)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        match_volume(molecule(), molecule(16), radius=6)


def test_shifts_are_within_reach_nearest_first() -> None:
    shifts = shift_grid(1.5, 1.0)
    assert len(shifts) == 19
    assert shifts[0].tolist() == [0, 0, 0]
    assert np.linalg.norm(shifts, axis=1).max() <= 1.5


def test_a_volume_is_moved_onto_another() -> None:
    moved = place(molecule(), random_rotations(1, np.random.default_rng(4)), np.array([[1.0, 0.5, -1.0]]))[0]
    inside = sphere(20, 8) > 0
    back = onto(moved, molecule(), radius=8)
    assert np.corrcoef(moved[inside], molecule()[inside])[0, 1] < 0.9
    assert np.corrcoef(back[inside], molecule()[inside])[0, 1] > 0.97
