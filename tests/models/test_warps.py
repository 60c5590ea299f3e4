"""Warps move what their equations say, can be undone, and never fold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_disentangle.models.warps import (
    AFFINE,
    INCREMENT,
    affine_matrices,
    affine_points,
    flow_points,
    increments_of,
    integrated_points,
    sample,
    still_points,
    total_variation,
    turns,
)

B, N = 3, 28


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def still() -> torch.Tensor:
    return still_points(N, torch.zeros(())).expand(B, N, N, 2)


def smooth_images() -> torch.Tensor:
    """(B, N, N), a blob off the centre."""
    points = still_points(N, torch.zeros(()))
    centres = torch.tensor([[0.2, 0.1], [-0.3, 0.0], [0.0, -0.2]])
    return torch.exp(-(points - centres[:, None, None]).square().sum(-1) / 0.1)


@pytest.mark.parametrize("shape", [(B, N, N), (B, 3, N, N)])
def test_still_points_change_nothing(shape):
    images = random(*shape)
    np.testing.assert_allclose(sample(images, still()), images, atol=1e-5)


def test_the_middle_pixel_is_the_origin_and_the_edge_is_two_long():
    points = still()[0]
    assert points[N // 2, N // 2].tolist() == [0, 0]
    assert (points[5, 9] - points[5, 8]).tolist() == pytest.approx([2 / N, 0])  # x is the last axis


def test_a_point_to_the_right_brings_the_image_to_the_left():
    images = random(B, N, N)
    moved = sample(images, still() + torch.tensor([2 * 4 / N, 0]))
    np.testing.assert_allclose(moved[:, :, :-4], images[:, :, 4:], atol=1e-4)
    np.testing.assert_allclose(moved[:, :, -1], images[:, :, -1], atol=1e-4)  # the border goes on


@pytest.mark.parametrize(
    "points",
    [
        affine_points(affine_matrices(torch.zeros(B, AFFINE), 0.2), still()),
        flow_points(torch.zeros(B, 2, 5, 5), N),
        integrated_points(increments_of(torch.zeros(B, 2, N, N))),
    ],
    ids=["affine", "flow", "increments"],
)
def test_zero_is_the_identity(points):
    np.testing.assert_allclose(points, still(), atol=1e-6)


def test_turns_take_x_to_y():
    quarter = turns(torch.tensor([math.pi / 2]))[0]
    np.testing.assert_allclose(quarter @ torch.tensor([1.0, 0.0]), [0, 1], atol=1e-6)


class TestAffine:
    def test_one_number_at_a_time(self):
        big = 100.0 * torch.eye(AFFINE)
        turn, wide, high, shear, right, down = affine_matrices(big, 0.1)
        for matrix, expected in (
            (turn, [[-1, 0, 0], [0, -1, 0]]),
            (wide, [[1.6, 0, 0], [0, 1, 0]]),
            (high, [[1, 0, 0], [0, 1.6, 0]]),
            (shear, [[math.cosh(0.5), math.sinh(0.5), 0], [math.sinh(0.5), math.cosh(0.5), 0]]),
            (right, [[1, 0, 0.2], [0, 1, 0]]),
            (down, [[1, 0, 0], [0, 1, 0.2]]),
        ):
            np.testing.assert_allclose(matrix, expected, atol=1e-4)

    def test_opposite_numbers_undo_it(self):
        numbers = random(B, AFFINE)
        there = affine_points(affine_matrices(numbers, 0.2), still())
        np.testing.assert_allclose(affine_points(affine_matrices(-numbers, 0.2), there), still(), atol=1e-5)


class TestFlow:
    def test_the_opposite_velocity_undoes_it(self):
        velocity = 0.15 * torch.tanh(random(B, 2, 5, 5))
        images = smooth_images()
        forth, back = flow_points(velocity, N), flow_points(-velocity, N)
        assert (forth - still()).abs().mean() > 1 / N  # half a pixel
        there_and_back = sample(back.movedim(-1, 1), forth).movedim(1, -1)
        assert (there_and_back - still())[:, 6:-6, 6:-6].abs().max() < 0.15 * 2 / N  # of a pixel
        left = sample(sample(images, forth), back) - images
        moved = sample(images, forth) - images
        assert left.abs().max() < 0.1  # interpolated twice
        assert left.square().mean() < 0.02 * moved.square().mean()

    def test_a_constant_velocity_is_a_shift(self):
        velocity = torch.tensor([0.2, -0.1])[None, :, None, None].expand(B, 2, 5, 5)
        np.testing.assert_allclose(
            flow_points(velocity, N) - still(), velocity[0, :, 0, 0].expand(B, N, N, 2), atol=1e-5
        )

    def test_it_does_not_fold(self):
        points = flow_points(0.3 * torch.tanh(random(B, 2, 5, 5)), N)
        across, down = points[:, :-1, 1:] - points[:, :-1, :-1], points[:, 1:, :-1] - points[:, :-1, :-1]
        areas = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
        assert areas.min() > 0


class TestIncrements:
    def test_they_are_positive_and_bounded(self):
        found = increments_of(torch.tensor([-1e3, -1.0, 0.0, 1.0, 1e3]))
        assert found[2] == 1
        assert found[[0, -1]].tolist() == pytest.approx([1 / INCREMENT, INCREMENT])
        assert (found[1:] > found[:-1]).all()

    def test_points_never_fold_and_the_middle_stays(self):
        points = integrated_points(increments_of(random(B, 2, N, N)))
        assert (points[:, :, 1:, 0] > points[:, :, :-1, 0]).all()
        assert (points[:, 1:, :, 1] > points[:, :-1, :, 1]).all()
        assert points[:, :, N // 2, 0].abs().max() == 0
        assert points[:, N // 2, :, 1].abs().max() == 0

    def test_twos_halve_the_image(self):
        points = integrated_points(torch.full((B, 2, N, N), 2.0))
        np.testing.assert_allclose(points, 2 * still(), atol=1e-6)


def test_total_variation_counts_steps():
    field = torch.zeros(1, 1, 4, 4)
    field[..., 2:] = 3
    assert total_variation(field).item() == pytest.approx(3 * 4 / 12)  # 4 of 12 horizontal pairs, no vertical one
    assert total_variation(torch.ones(2, 2, 5, 5)).item() == 0
