"""VITAE warps what it decodes, and reads the appearance with the warp undone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_disentangle.models import build_model
from napari_disentangle.models.base import Batch, Spec
from napari_disentangle.models.warps import affine_matrices, affine_points, sample, still_points

if TYPE_CHECKING:
    from napari_disentangle.models.vitae import VITAE

B, N = 4, 28
SPEC = Spec(dims=2, coarse=N, fine=N, content=3, transform=5)
WARPS = pytest.mark.parametrize("warp", ["affine", "diffeomorphic"])


def built(**changes: object) -> VITAE:
    torch.manual_seed(0)
    return build_model("vitae", replace(SPEC, **changes)).eval()


def batch(channels: int = 1) -> Batch:
    images = torch.randn(B, *replace(SPEC, channels=channels).shape(N), generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.zeros(B, 0), torch.eye(3).repeat(B, 1, 1), torch.zeros(B, 3))


def unbiased(model: VITAE, numbers: torch.Tensor) -> None:
    """Make the warp the same whatever the code: that of `numbers` (k,)."""
    with torch.no_grad():
        model.warp[-1].weight.zero_()
        model.warp[-1].bias.copy_(numbers)


@WARPS
@pytest.mark.parametrize("channels", [1, 3])
def test_zero_parameters_change_nothing(warp, channels):
    model, content = built(warp=warp, channels=channels), torch.randn(B, 3)
    unbiased(model, torch.zeros_like(model.warp[-1].bias))
    found = model.decode(content, torch.randn(B, 5), N)
    np.testing.assert_allclose(found.detach(), model.decoder(content, N).detach(), atol=1e-5)


@WARPS
def test_an_image_made_by_a_warp_has_the_appearance_of_the_unwarped_one(warp):
    points = still_points(N, torch.zeros(()))
    unwarped = torch.exp(-(points - torch.tensor([0.1, 0.0])).square().sum(-1) / 0.05).repeat(B, 1, 1)
    model = built(warp=warp)
    code = torch.zeros(B, 5)
    numbers = 0.7 * torch.randn(model.warp[-1].bias.shape, generator=torch.Generator().manual_seed(1))
    unbiased(model, torch.zeros_like(numbers))
    plain, _ = model._appearance(unwarped, code)
    unbiased(model, numbers)
    made = sample(unwarped, model._points(model.warp(code), N))
    undone, _ = model._appearance(made, code)
    unbiased(model, torch.zeros_like(numbers))
    left, _ = model._appearance(made, code)
    assert (undone - plain).norm() < 0.2 * (left - plain).norm()


def test_an_affine_warp_is_that_of_the_matrices():
    model = built(warp="affine", max_shift=0.2)
    numbers = torch.randn(B, 6)
    expected = affine_points(affine_matrices(numbers, 0.2), still_points(N, numbers).expand(B, N, N, 2))
    assert torch.equal(model._points(numbers, N), expected)


def test_a_diffeomorphic_warp_moves_no_point_much_further_than_the_largest_shift():
    model = built(warp="diffeomorphic", max_shift=0.1)
    moved = model._points(1e3 * torch.randn(B, model.warp[-1].bias.numel()), N) - still_points(N, torch.zeros(()))
    assert 0.15 < moved.abs().max() < 1.6 * 0.2  # bicubic between knots


@WARPS
def test_codes_are_means_and_the_terms_make_the_bound(warp):
    model, given = built(warp=warp, kl=2.0, summed=True), batch()
    losses = model(given, torch.Generator().manual_seed(0))
    nats = 2.0 * (3 * losses.terms["kl_content"] + 5 * losses.terms["kl_transform"])
    assert losses.total.item() == pytest.approx(float(losses.terms["reconstruction"] * N**2 / 2 + nats), rel=1e-5)
    found = model.encode(given)
    assert (found.content.shape, found.transform.shape) == ((B, 3), (B, 5))
    assert torch.equal(found.transform, model._perspective(given.volumes)[0])
    assert torch.equal(found.content, model._appearance(given.volumes, found.transform)[0])


def test_it_learns_that_one_image_is_turned():
    points = still_points(N, torch.zeros(()))
    bar = torch.exp(-(points / torch.tensor([0.5, 0.12])).square().sum(-1))
    angles = torch.linspace(-1.2, 1.2, 24)
    numbers = torch.zeros(24, 6)
    numbers[:, 0] = torch.atanh(angles / math.pi)
    images = sample(bar.repeat(24, 1, 1), affine_points(affine_matrices(numbers, 0.1), points.expand(24, N, N, 2)))
    images = (images - images.mean()) / images.std()
    given = Batch(images, torch.zeros(24, 0), torch.eye(3).repeat(24, 1, 1), torch.zeros(24, 3))
    model, source = built(warp="affine").train(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(120):
        optimiser.zero_grad()
        model(given, source).total.backward()
        optimiser.step()
    found = model.encode(given)
    assert (model.reconstruct(given, found) - images).square().mean() < 0.2
    other = replace(found, transform=found.transform.flip(0))
    assert (model.reconstruct(given, other) - images).square().mean() > 0.5  # and it is the perspective that turns it
