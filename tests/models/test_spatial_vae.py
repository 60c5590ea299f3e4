"""SpatialVAE's decoder is a function of places: poses move them, and nothing is interpolated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_disentangle.geometry import place_volumes, random_rotations, sample_images
from napari_disentangle.models import build_model
from napari_disentangle.models import spatial_vae as module
from napari_disentangle.models.base import Batch, Encoding, Spec
from napari_disentangle.models.losses import apply_wedge, sampled_region
from napari_disentangle.models.warps import turns

if TYPE_CHECKING:
    from napari_disentangle.models.spatial_vae import SpatialVAE

B, N = 4, 28
IMAGES = Spec(dims=2, coarse=N, fine=N)
VOLUMES = Spec(dims=3, coarse=8, fine=16, sphere=0.34)


def built(spec: Spec) -> SpatialVAE:
    torch.manual_seed(0)
    return build_model("spatial-vae", spec).eval()


def batch(spec: Spec, size: int, *, tilts: tuple[float, float] | None = None) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        volumes=torch.randn(B, *spec.shape(size), generator=torch.Generator().manual_seed(0)),
        invariants=torch.zeros(B, 0),
        rotations=torch.tensor(random_rotations(B, rng)).float(),
        shifts=torch.tensor(rng.uniform(-0.1, 0.1, (B, 3))).float(),
        tilts=None if tilts is None else torch.tensor([tilts]).repeat(B, 1),
    )


def blob(where: torch.Tensor) -> torch.Tensor:
    """A function of places (b, p, d), lopsided and smooth, gone well before the edge."""
    centre = torch.tensor([0.25, 0.1, -0.15])[: where.shape[-1]]
    return torch.exp(-(where - centre).square().sum(-1, keepdim=True) / 0.05)


def knowing(spec: Spec) -> SpatialVAE:
    """A model that decodes `blob` whatever the code."""
    model = built(spec)
    model.decoder.forward = lambda codes, where: blob(where.expand(len(codes), -1, -1))
    return model


@pytest.mark.parametrize("channels", [1, 3])
def test_a_quarter_turn_of_the_decoded_image_is_the_reconstruction_at_it(channels):
    spec = replace(IMAGES, channels=channels)
    model, content = built(spec), torch.randn(B, 4)
    quarter = torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat(B, 1)  # cosine, sine, shift
    decoded = model.decode(content, quarter, N)
    placed = model.reconstruct(batch(spec, N), Encoding(content, quarter))
    turned = sample_images(decoded, turns(torch.full((B,), -math.pi / 2)), torch.zeros(B, 2))
    np.testing.assert_allclose(placed[..., 1:, 1:].detach(), turned[..., 1:, 1:].detach(), atol=1e-4)


def test_any_turn_and_shift_of_an_image_is_its_reconstruction_but_for_interpolation():
    model = knowing(IMAGES)
    angle, shift = torch.tensor([0.3, -1.0, 2.5, 4.0]), torch.tensor([[0.1, 0.0], [0.0, -0.1], [0.05, 0.1], [0.0, 0.0]])
    code = model.pose.code(angle, shift)
    placed = model.reconstruct(batch(IMAGES, N), Encoding(torch.zeros(B, 4), code))
    inverse = turns(-angle)
    decoded = model.decode(torch.zeros(B, 4), code, N)
    expected = sample_images(decoded, inverse, -(inverse @ shift[..., None])[..., 0] * N)
    np.testing.assert_allclose(placed, expected, atol=0.06)


def test_a_volume_is_reconstructed_where_place_volumes_puts_it():
    size = 16
    model, given = knowing(VOLUMES), batch(VOLUMES, size)
    code = Encoding(torch.zeros(B, 4), torch.zeros(B, 12), given.rotations, given.shifts)
    placed = model.reconstruct(given, code)
    expected = place_volumes(model.decode(code.content, code.transform, size), given.rotations, given.shifts * size)
    assert (placed - expected).square().mean() < 0.03 * expected.square().mean()


def test_the_same_function_at_every_size():
    model, content = built(VOLUMES), torch.randn(B, 4)
    coarse, fine = (model.decode(content, content, size) for size in (8, 16))
    np.testing.assert_allclose(fine[:, ::2, ::2, ::2].detach(), coarse.detach(), atol=1e-5)
    assert model.decode(content, content, 12).shape == (B, 12, 12, 12)


def test_only_what_the_mask_shows_is_decoded_and_nothing_else_counts():
    model, given = built(VOLUMES), batch(VOLUMES, 8)
    seen: list[int] = []
    decode = model.decoder.forward
    model.decoder.forward = lambda codes, where: (seen.append(where.shape[1]), decode(codes, where))[1]
    found = model(given, torch.Generator().manual_seed(0)).terms["reconstruction"]
    assert seen == [int((model.sphere(8) > 0).sum())]
    masked = replace(given, volumes=given.volumes * (model.sphere(8) > 0))
    assert model(masked, torch.Generator().manual_seed(0)).terms["reconstruction"] == pytest.approx(float(found))


def test_a_wedge_is_heeded():
    model, given = knowing(VOLUMES), batch(VOLUMES, 16, tilts=(-40.0, 40.0))
    model.keep_poses()
    content = torch.zeros(B, 4)
    code = Encoding(content, content, given.rotations, given.shifts)
    whole = model.reconstruct(replace(given, tilts=None), code)
    partly = apply_wedge(whole, sampled_region(16, given.tilts, None))
    np.testing.assert_allclose(model.reconstruct(given, code), partly, atol=1e-5)
    heeded = model(replace(given, volumes=partly), torch.Generator()).terms["reconstruction"]
    ignored = model(replace(given, volumes=partly, tilts=None), torch.Generator()).terms["reconstruction"]
    assert heeded < 0.2 * ignored


def test_kept_poses_are_those_of_the_batch():
    model, given = built(VOLUMES), batch(VOLUMES, 8)
    assert not torch.equal(model.encode(given).rotations, given.rotations)
    model.keep_poses()
    assert torch.equal(model.encode(given).rotations, given.rotations)


def test_the_bound_counts_nats_beside_half_the_squares():
    given = batch(IMAGES, N)
    for kl in (None, 3.0):
        for summed in (False, True):
            model = built(replace(IMAGES, kl=kl, summed=summed))
            losses = model(given, torch.Generator().manual_seed(0))
            terms = losses.terms
            nats = (kl or 1.0) * (4 * terms["kl_content"] + terms["kl_pose"])
            bound = terms["reconstruction"] * N**2 / 2 + nats
            assert losses.total.item() == pytest.approx(float(bound if summed else bound * 2 / N**2), rel=1e-5)


def test_an_angle_costs_by_its_spread_alone():
    model = built(IMAGES)
    features = torch.zeros(1, module.WIDTH)
    with torch.no_grad():
        model.pose.head.bias[4:] = 2.0 + torch.tensor([2 * math.log(math.pi), 0.0, 0.0])  # the posterior is the prior
        for direction in ([1.0, 0.0], [-1.0, -3.0]):
            model.pose.head.bias[:2] = torch.tensor(direction)
            assert model.pose(features)[2].item() == pytest.approx(0, abs=1e-5)
        model.pose.head.bias[4] -= 2 * math.log(2)  # half as wide
    assert model.pose(features)[2].item() == pytest.approx(0.5 * (0.25 - 1) + math.log(2), abs=1e-5)


@pytest.mark.parametrize(("moves", "columns"), [(None, 4), (("rotation",), 2), (("translation",), 2), ((), 0)])
def test_an_image_moves_as_it_may(moves, columns):
    model = built(replace(IMAGES, moves=moves))
    given = batch(IMAGES, N)
    found = model.encode(given)
    assert found.transform.shape == (B, columns)
    assert model.reconstruct(given, found).shape == given.volumes.shape
    with torch.no_grad():
        angle, shift, _ = model.pose(torch.randn(B, module.WIDTH), torch.Generator())
    np.testing.assert_allclose(model.pose.from_code(model.pose.code(angle, shift))[0], turns(angle), atol=1e-6)
    np.testing.assert_allclose(model.pose.from_code(model.pose.code(angle, shift))[1], shift, atol=1e-6)
    assert shift.abs().max() <= IMAGES.max_shift


def test_many_points_in_pieces_are_the_same_and_so_are_their_gradients(monkeypatch):
    def gradients() -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        model, given = built(VOLUMES), batch(VOLUMES, 8)
        total = model(given, torch.Generator().manual_seed(0)).total
        total.backward()
        return total, model.decode(torch.ones(B, 4), torch.ones(B, 4), 8), [p.grad for p in model.parameters()]

    whole = gradients()
    monkeypatch.setattr(module, "_POINTS_AT_ONCE", 300)
    pieces = gradients()
    for a, b in zip([*whole[:2], *whole[2]], [*pieces[:2], *pieces[2]], strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), atol=1e-5)
