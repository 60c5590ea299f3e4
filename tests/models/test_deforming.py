"""The Deforming Autoencoder samples a texture through a warp, and pays for warps that are rough or lopsided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_disentangle.models import build_model
from napari_disentangle.models import deforming as module
from napari_disentangle.models.base import Batch, Spec
from napari_disentangle.models.warps import AFFINE, still_points

if TYPE_CHECKING:
    from napari_disentangle.models.deforming import DeformingAutoencoder

B, N = 4, 28
SPEC = Spec(dims=2, coarse=N, fine=N, content=3, transform=5)


def built(**changes: object) -> DeformingAutoencoder:
    torch.manual_seed(0)
    return build_model("deforming-autoencoder", replace(SPEC, **changes)).eval()


def batch(images: torch.Tensor) -> Batch:
    b = len(images)
    return Batch(images, torch.zeros(b, 0), torch.eye(3).repeat(b, 1, 1), torch.zeros(b, 3))


def warped_by(model: DeformingAutoencoder, numbers: torch.Tensor) -> None:
    with torch.no_grad():
        model.warp[-1].weight.zero_()
        model.warp[-1].bias.copy_(numbers)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28])
def test_zero_numbers_change_nothing(channels, size):
    model, content = built(channels=channels, coarse=size, fine=size), torch.randn(B, 3)
    warped_by(model, torch.zeros_like(model.warp[-1].bias))
    found = model.decode(content, torch.randn(B, 5), size)
    assert found.shape == (B, *replace(SPEC, channels=channels).shape(size))
    np.testing.assert_allclose(found.detach(), model.decoder(content, size).detach(), atol=1e-5)


def test_the_terms_are_those_of_the_paper():
    model = built()
    images = torch.randn(B, N, N, generator=torch.Generator().manual_seed(0))
    losses = model(batch(images), torch.Generator())
    terms = losses.terms
    expected = terms["reconstruction"] + module.SMOOTHNESS * terms["smoothness"] + module.BIAS * terms["bias"]
    assert losses.total.item() == pytest.approx(float(expected), rel=1e-5)
    found = model.encode(batch(images))
    difference = model.reconstruct(batch(images), found).detach() - images
    assert terms["reconstruction"].item() == pytest.approx(float(difference.square().mean()), rel=1e-4)


def test_the_bias_is_that_of_the_mean_warp():
    model, images = built(), torch.zeros(2, N, N)
    numbers = torch.zeros_like(model.warp[-1].bias)
    numbers[4] = 100.0  # a shift by the largest, 0.1 of the edge
    warped_by(model, numbers)
    terms = model(batch(images), torch.Generator()).terms
    assert terms["smoothness"].item() < 1e-6
    assert terms["bias"].item() == pytest.approx(0.2**2 / 6, rel=1e-3)  # one of six numbers of the matrix
    numbers[4], numbers[AFFINE:] = 0.0, 100.0  # every increment at its largest
    warped_by(model, numbers)
    points = still_points(N, images)
    expected = ((3.0 - 1) * points).square().mean()
    assert model(batch(images), torch.Generator()).terms["bias"].item() == pytest.approx(float(expected), rel=1e-3)


def test_it_learns_that_one_image_is_shifted():
    points = still_points(N, torch.zeros(()))
    centres = torch.stack(torch.meshgrid(*[torch.linspace(-0.25, 0.25, 5)] * 2, indexing="ij"), -1).reshape(-1, 2)
    images = torch.exp(-(points - centres[:, None, None]).square().sum(-1) / 0.06)
    images = (images - images.mean()) / images.std()
    model = built(max_shift=0.2).train()
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(150):
        optimiser.zero_grad()
        model(batch(images), torch.Generator()).total.backward()
        optimiser.step()
    found = model.encode(batch(images))
    own = (model.reconstruct(batch(images), found) - images).square().mean()
    other = replace(found, transform=found.transform.flip(0))
    assert own < 0.2
    assert (model.reconstruct(batch(images), other) - images).square().mean() > 3 * own
