"""SimCLR's losses are what its equation says, and its copies what a microscope could have seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_disentangle.models import build_model
from napari_disentangle.models.base import Batch, Spec
from napari_disentangle.models.losses import apply_wedge, sampled_region
from napari_disentangle.models.simclr import GAIN, NOISE, apart, nt_xent, seen_again, turned

B = 6
IMAGES = Spec(dims=2, coarse=28, fine=28, content=3, transform=2)
VOLUMES = Spec(dims=3, coarse=8, fine=16, content=3, transform=2, sphere=0.34)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(spec: Spec, size: int, *, tilts: tuple[float, float] | None = None) -> Batch:
    return Batch(
        torch.randn(B, *spec.shape(size), generator=generator()), torch.zeros(B, 0), torch.eye(3).repeat(B, 1, 1),
        torch.zeros(B, 3), None if tilts is None else torch.tensor([tilts]).repeat(B, 1),
    )  # fmt: skip


class TestLosses:
    def test_two_pairs_by_hand(self):
        codes = torch.eye(2)
        # each code: its partner at cosine 1, two others at 0, all over a temperature of 0.5
        expected = -math.log(math.exp(2) / (math.exp(2) + 2))
        assert nt_xent(codes, 3 * codes).item() == pytest.approx(expected, rel=1e-5)
        # partners at 0; the others at 1 and 0
        wrong = -math.log(1 / (math.exp(2) + 2))
        assert nt_xent(codes, codes.flip(0)).item() == pytest.approx(wrong, rel=1e-5)

    def test_aligned_pairs_cost_less_than_shuffled_ones(self):
        codes = torch.randn(20, 4, generator=generator())
        near = codes + 0.1 * torch.randn(20, 4, generator=generator(1))
        assert nt_xent(codes, near) < nt_xent(codes, near.roll(1, 0)) - 0.5

    def test_one_pair_costs_nothing(self):
        assert nt_xent(torch.ones(1, 3), torch.randn(1, 3)).item() == pytest.approx(0, abs=1e-6)

    def test_the_turn_by_hand(self):
        one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        alike = -math.log(math.exp(2) / (math.exp(2) + 1))
        assert apart(one, one, other).item() == pytest.approx(alike, rel=1e-5)
        assert apart(one, one, one).item() == pytest.approx(math.log(2), rel=1e-5)
        assert apart(one, one, -one).item() == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-4)


class TestCopies:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_turned_image_keeps_its_middle_and_goes_on_at_its_border(self, channels):
        spec = replace(IMAGES, channels=channels)
        images = torch.full((B, *spec.shape(28)), -2.0)
        images[..., 14, 14] = 5.0
        found, _ = turned(replace(batch(spec, 28), volumes=images), 2, generator())
        assert found.shape == images.shape
        np.testing.assert_allclose(found[..., 14, 14], 5.0, atol=1e-4)
        np.testing.assert_allclose(found[..., 0, 0], -2.0, atol=1e-4)

    def test_a_turned_volume_lacks_what_was_not_measured(self):
        given = batch(VOLUMES, 16, tilts=(-40.0, 40.0))
        region = sampled_region(16, given.tilts, None)
        for found in (turned(given, 3, generator())[0], seen_again(given.volumes, given, generator())):
            np.testing.assert_allclose(apply_wedge(found, region), found, atol=1e-4)
            assert not torch.allclose(found, apply_wedge(given.volumes, region), atol=0.1)

    def test_copies_have_other_noise_and_contrast(self):
        given = replace(batch(IMAGES, 28), volumes=torch.full((B, 28, 28), 10.0))
        found = seen_again(given.volumes, given, generator())
        np.testing.assert_allclose(found.std((1, 2)), NOISE, rtol=0.1)
        levels = found.mean((1, 2)) / 10
        assert 0.02 < levels.std() < GAIN
        assert (levels - 1).abs().max() < GAIN + 0.02


@pytest.mark.parametrize("name", ["simclr", "simclr-generative"])
@pytest.mark.parametrize(
    ("spec", "size"), [(IMAGES, 28), (replace(IMAGES, channels=3), 28), (VOLUMES, 8), (VOLUMES, 16)]
)
def test_codes_have_their_sizes(name, spec, size):
    torch.manual_seed(0)
    found = build_model(name, spec).encode(batch(spec, size))
    assert (found.content.shape, found.transform.shape) == ((B, 3), (B, 2))
    assert found.rotations is None


@pytest.mark.parametrize("tilts", [None, (-60.0, 60.0)])
def test_the_generative_one_adds_a_bound(tilts):
    given = batch(VOLUMES, 16, tilts=tilts)
    for weight, kl, summed in ((1.0, None, False), (5.0, 0.5, False), (1.0, 2.0, True)):
        torch.manual_seed(0)
        model = build_model("simclr-generative", replace(VOLUMES, weight=weight, kl=kl, summed=summed))
        losses = model(given, generator())
        terms = losses.terms
        nats = (1.0 if kl is None else kl) * (3 * terms["kl_content"] + 2 * terms["kl_transform"])
        bound = terms["reconstruction"] * 16**3 / 2 + nats
        bound = bound if summed else bound * 2 / 16**3
        expected = weight * bound + terms["content_contrast"] + terms["transform_contrast"]
        assert losses.total.item() == pytest.approx(float(expected), rel=1e-5)


def test_a_reconstruction_lacks_what_was_not_measured():
    torch.manual_seed(0)
    model, given = build_model("simclr-generative", VOLUMES), batch(VOLUMES, 16, tilts=(-40.0, 40.0))
    found = model.reconstruct(given, model.encode(given)).detach()
    np.testing.assert_allclose(apply_wedge(found, sampled_region(16, given.tilts, None)), found, atol=1e-5)


def test_content_ignores_the_turn_and_the_other_code_tells_it():
    points = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 28)] * 2, indexing="ij"), -1)
    widths = torch.linspace(0.1, 0.5, 16)
    images = torch.stack([torch.exp(-(points / torch.tensor([0.5, w])).square().sum(-1)) for w in widths])
    images = (images - images.mean()) / images.std()
    given = Batch(images, torch.zeros(16, 0), torch.eye(3).repeat(16, 1, 1), torch.zeros(16, 3))
    torch.manual_seed(0)
    model, source = build_model("simclr", IMAGES), generator()
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    losses = []
    for _ in range(120):
        optimiser.zero_grad()
        loss = model(given, source).total
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.5
    one, other = (model.encode(replace(given, volumes=turned(given, 2, generator(seed))[0])) for seed in (1, 2))
    alike = torch.nn.functional.cosine_similarity
    assert alike(one.content, other.content).mean() > 0.9
    assert alike(one.content, other.content).mean() > alike(one.transform, other.transform).mean() + 0.3
