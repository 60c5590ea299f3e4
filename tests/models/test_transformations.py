"""A pose head's numbers become rotations and shifts that stay where they may."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_disentangle.geometry import euler_to_matrix, geodesic_angle, matrix_to_euler, random_rotations
from napari_disentangle.models.transformations import (
    Moves,
    PlanarTransformation,
    RigidTransformation,
    bounded_rotation,
    turn_about_z,
)

B = 200


@pytest.fixture
def imported() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return torch.tensor(random_rotations(B, rng)).float(), torch.tensor(rng.uniform(-0.1, 0.1, (B, 3))).float()


def head(mode, *, features=16, max_shift=0.12, cone=20.0) -> RigidTransformation:
    torch.manual_seed(0)
    return RigidTransformation(features, mode, max_shift, cone)


def moved(moves: Moves) -> tuple[torch.Tensor, torch.Tensor]:
    return moves.rotations, moves.shifts


def features(scale: float) -> torch.Tensor:
    return scale * torch.randn(B, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
class TestBounds:
    def test_free_shifts_stay_inside(self, imported, scale):
        rotations, shifts = moved(head("free")(features(scale) + 1e-3, *imported))
        assert shifts.abs().max() <= 0.12 + 1e-6
        np.testing.assert_allclose(
            (rotations @ rotations.transpose(1, 2)).detach(), np.tile(np.eye(3), (B, 1, 1)), atol=1e-4
        )
        assert torch.linalg.det(rotations).min() > 0.99

    def test_local_stays_in_its_cone_and_near_its_shift(self, imported, scale):
        rotations, shifts = moved(head("local")(features(scale), *imported))
        assert geodesic_angle(rotations.detach().numpy(), imported[0].numpy()).max() < 20.1
        assert (shifts - imported[1]).abs().max() <= 0.12 + 1e-6

    def test_prior_keeps_tilt_and_psi(self, scale):
        rng = np.random.default_rng(3)
        prior = np.stack([np.zeros(B), rng.uniform(10, 170, B), rng.uniform(-170, 170, B)], 1)
        start = torch.tensor(euler_to_matrix(prior)).float()
        rotations, _ = moved(head("prior")(features(scale), start, torch.zeros(B, 3)))
        found = matrix_to_euler(rotations.detach().numpy())
        np.testing.assert_allclose(found[:, 1], prior[:, 1], atol=0.1)
        np.testing.assert_allclose((found[:, 2] - prior[:, 2] + 180) % 360, 180, atol=0.1)
        if scale:
            assert np.std(found[:, 0]) > 30  # and any rot

    def test_fixed_is_the_imported_pose_to_the_bit(self, imported, scale):
        rotations, shifts = moved(head("fixed")(features(scale), *imported))
        assert torch.equal(rotations, imported[0])
        assert torch.equal(shifts, imported[1])


@pytest.mark.parametrize("mode", ["free", "local", "prior"])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_gradients_are_finite_everywhere(mode, scale):
    module = head(mode)
    x = features(scale).requires_grad_()
    rotations, shifts = moved(module(x, torch.eye(3).repeat(B, 1, 1), torch.zeros(B, 3)))
    (rotations.square().sum() + rotations[:, 0, 1].sum() + shifts.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_the_rotation_vector_has_its_axis_and_hand():
    turned = bounded_rotation(torch.tensor([[0.0, 0, 100.0]]), np.pi / 2)[0]  # tanh is 1: the whole limit
    np.testing.assert_allclose(turned @ torch.tensor([1.0, 0, 0]), [0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(bounded_rotation(torch.zeros(1, 3), 1.0)[0], np.eye(3), atol=1e-6)


def test_two_numbers_turn_about_z():
    turned = turn_about_z(torch.tensor([[0.0, 3.0]]))[0]
    np.testing.assert_allclose(turned @ torch.tensor([1.0, 0, 5]), [0, 1, 5], atol=1e-5)


class TestImages:
    def image(self, *colours: int) -> torch.Tensor:
        y, x = torch.meshgrid(torch.arange(24.0) - 12, torch.arange(24.0) - 12, indexing="ij")
        blob = torch.exp(-((x - 2) ** 2 + (y + 1) ** 2) / 14) + 0.5 * torch.exp(-((x + 3) ** 2 + (y - 3) ** 2) / 9)
        return blob.repeat(B, *colours, 1, 1)

    @pytest.mark.parametrize(
        "moves",
        [("rotation",), ("translation",), ("scale",), ("contrast",), ("rotation", "translation", "scale", "contrast")],
    )
    @pytest.mark.parametrize("colours", [(), (3,)])
    def test_placing_undoes_aligning_and_the_code_says_how(self, moves, colours):
        there = PlanarTransformation(16, moves, 0.1)
        images, generator = self.image(*colours), torch.Generator().manual_seed(2)
        drawn = there.random(images, generator)
        placed = there.place(images, drawn)
        assert (placed - images).abs().mean() > 0.003
        again = there.align(placed, drawn)
        assert (again - images).abs().mean() < 0.004
        code = there.code(drawn)
        torch.testing.assert_close(there.place(images, there.from_code(code)), placed)

    def test_a_turn_goes_from_x_to_y_and_a_shift_along_x(self):
        there = PlanarTransformation(16, ("rotation", "translation"), 0.5)
        image = torch.zeros(1, 25, 25)
        image[0, 12, 16] = 1.0
        quarter = Moves(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]), torch.tensor([[0.12, 0.0]]))
        placed = there.place(image, quarter)
        assert placed[0, 16, 15] > 0.99  # x to y, then three pixels along x

    def test_bounds(self):
        moves = PlanarTransformation(16, ("rotation", "translation", "scale", "contrast"), 0.1)(
            features(1e4), None, None
        )
        assert moves.shifts.abs().max() <= 0.1 + 1e-6
        assert 1 / 1.61 < moves.scales.min() < moves.scales.max() < 1.61
        assert moves.gains.max() < 3.01
