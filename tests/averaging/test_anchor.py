"""How far poses may leave those they have to stay near."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_disentangle.averaging.anchor import Anchor
from napari_disentangle.averaging.refine import Poses
from napari_disentangle.geometry import geodesic_angle, random_rotations


def anchor(count: int, *, any_rot: bool) -> Anchor:
    return Anchor(random_rotations(count, np.random.default_rng(0)), np.zeros((count, 3)), 20.0, any_rot)


def about(axis: str, degrees: float) -> np.ndarray:
    return Rotation.from_euler(axis, degrees, degrees=True).as_matrix()


def test_of_a_prior_only_the_axis_counts() -> None:
    near, prior = anchor(5, any_rot=False), anchor(5, any_rot=True)
    turned = near.rotations @ about("z", 70)
    np.testing.assert_allclose(near.beyond(turned), 70)
    np.testing.assert_allclose(prior.beyond(turned), 0, atol=1e-5)
    np.testing.assert_allclose(prior.beyond(near.rotations @ about("x", 35) @ about("z", 70)), 35)


def test_of_some_rows_and_of_many_rotations_each() -> None:
    near = anchor(6, any_rot=False)
    rows, tried = np.array([4, 1]), random_rotations(3, np.random.default_rng(1))
    found = near.beyond(np.broadcast_to(tried, (2, 3, 3, 3)), rows)
    expected = [[geodesic_angle(near.rotations[row], turn) for turn in tried] for row in rows]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("any_rot", [False, True])
def test_those_outside_are_turned_back_to_the_edge_the_shortest_way(any_rot: bool) -> None:
    near, rng = anchor(200, any_rot=any_rot), np.random.default_rng(2)
    rotations = np.concatenate([random_rotations(100, rng), near.rotations[100:] @ about("y", 12)])
    shifts = rng.normal(size=(200, 3)) * 4
    poses, before = near.held(Poses(rotations, shifts), 5.0), near.beyond(rotations)
    held, far = poses.rotations, np.linalg.norm(shifts, axis=1) > 5
    assert 20 < far.sum() < 180
    np.testing.assert_allclose(poses.shifts[~far], shifts[~far], atol=1e-12)
    np.testing.assert_allclose(poses.shifts[far], 5 * shifts[far] / np.linalg.norm(shifts[far], axis=1, keepdims=True))
    assert near.beyond(held).max() <= 20 + 1e-6
    outside = before > 20
    assert outside[:100].sum() > 80
    np.testing.assert_allclose(held[~outside], rotations[~outside], atol=1e-12)
    np.testing.assert_allclose(near.beyond(held)[outside], 20, atol=1e-5)
    np.testing.assert_allclose(geodesic_angle(held, rotations)[outside], before[outside] - 20, atol=1e-5)
