"""The bounds of variational autoencoders are what their equations say, and short training lowers them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_disentangle.models import build_model
from napari_disentangle.models.base import Batch, Spec
from napari_disentangle.models.losses import apply_wedge, information_of_codes, kl_to_prior, sampled_region
from napari_disentangle.models.nets import resample

if TYPE_CHECKING:
    from napari_disentangle.models.vae import VAE

NAMES = ("vae", "vae-two-spaces", "beta-vae", "beta-tcvae")
VOLUMES = Spec(dims=3, coarse=8, fine=16, sphere=0.4, content=3, transform=2)
IMAGES = Spec(dims=2, coarse=8, fine=8, content=3, transform=2)


def built(name: str, spec: Spec, **changes: object) -> VAE:
    torch.manual_seed(0)
    return build_model(name, Spec(**(vars(spec) | changes)))


def batch(particles: torch.Tensor, **wedge: torch.Tensor) -> Batch:
    b = len(particles)
    return Batch(particles, torch.zeros(b, 0), torch.eye(3).repeat(b, 1, 1), torch.zeros(b, 3), **wedge)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def losses_of(model: VAE, given: Batch):
    return model(given, torch.Generator().manual_seed(0))


class TestTheLoss:
    def test_kl_is_that_of_gaussians(self):
        mean, logvar = noise(7, 3), noise(7, 3, seed=1)
        normal = torch.distributions.Normal
        expected = torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0)).mean()
        torch.testing.assert_close(kl_to_prior(mean, logvar), expected)
        assert kl_to_prior(torch.zeros(2, 3), torch.zeros(2, 3)) == 0

    @pytest.mark.parametrize("size", [8, 16])
    @pytest.mark.parametrize(("name", "beta"), [("vae", 1.0), ("vae-two-spaces", 1.0), ("beta-vae", 4.0)])
    def test_a_sum_is_the_bound_and_a_mean_the_same_in_other_units(self, name, beta, size):
        given = batch(noise(4, size, size, size))
        mean, total = (losses_of(built(name, VOLUMES, summed=summed), given) for summed in (False, True))
        dims = 5 if name == "vae-two-spaces" else 3
        nats = 16**3 / 2 * total.terms["reconstruction"] + beta * dims * total.terms["kl"]
        torch.testing.assert_close(total.total.detach(), nats)
        torch.testing.assert_close(mean.total.detach(), nats * 2 / 16**3)

    def test_kl_of_the_settings_is_beta(self):
        given = batch(noise(4, 8, 8))
        for name, beta in (("vae", 4.0), ("beta-vae", None), ("beta-vae", 4.0)):
            found = losses_of(built(name, IMAGES, kl=beta), given).total
            torch.testing.assert_close(found, losses_of(built("beta-vae", IMAGES), given).total)
        assert losses_of(built("vae", IMAGES), given).total < found

    def test_a_total_correlation_that_counts_once_is_a_vae(self):
        given = batch(noise(6, 8, 8))
        plain, once = losses_of(built("vae", IMAGES), given), losses_of(built("beta-tcvae", IMAGES, kl=1.0), given)
        torch.testing.assert_close(once.total, plain.total)
        parts = sum(once.terms[key] for key in ("mutual_information", "total_correlation", "dimension_kl"))
        torch.testing.assert_close(parts, 3 * plain.terms["kl"])

    def test_colour_counts_its_three_channels(self):
        found = losses_of(built("vae", IMAGES, channels=3, summed=True), batch(noise(4, 3, 8, 8)))
        nats = 192 / 2 * found.terms["reconstruction"] + 3 * found.terms["kl"]
        torch.testing.assert_close(found.total.detach(), nats)


class TestInformation:
    """Means of a normal spread and posteriors of variance v: what is shared is known."""

    B, VARIANCE = 2000, 0.5

    def codes(self, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logvar = torch.full_like(means, math.log(self.VARIANCE))
        return means + noise(*means.shape, seed=1) * self.VARIANCE**0.5, means, logvar

    def test_independent_dimensions_share_nothing(self):
        information, correlation = information_of_codes(*self.codes(noise(self.B, 3)))
        assert abs(correlation) < 0.05
        assert information == pytest.approx(3 / 2 * math.log(1 + 1 / self.VARIANCE), abs=0.1)

    def test_a_dimension_twice_shares_what_it_knows(self):
        _, correlation = information_of_codes(*self.codes(noise(self.B, 1).repeat(1, 2)))
        common = 1 / (1 + self.VARIANCE)
        assert correlation == pytest.approx(-0.5 * math.log(1 - common**2), abs=0.05)

    def test_codes_that_say_nothing(self):
        information, correlation = information_of_codes(*self.codes(torch.zeros(50, 3)))
        assert abs(information) < 1e-5
        assert abs(correlation) < 1e-5

    def test_narrow_codes_give_what_a_batch_can_tell(self):
        means = 100 * torch.arange(8.0)[:, None].repeat(1, 3)
        information, correlation = information_of_codes(*self.codes(means))
        assert information == pytest.approx(math.log(8), rel=1e-4)
        assert correlation == pytest.approx(2 * math.log(8), rel=1e-4)

    def test_one_particle_is_a_batch(self):
        assert information_of_codes(noise(1, 3), noise(1, 3), torch.zeros(1, 3)) == (0, 0)


class TestTheWedge:
    tilts = torch.tensor([[-50.0, 40.0]]).repeat(4, 1)

    def test_what_was_not_measured_does_not_count(self):
        model = built("vae", VOLUMES, sphere=0.0)
        torch.nn.init.zeros_(model.posterior.weight)  # the same codes, whatever the particle
        region = sampled_region(16, self.tilts, None)
        everything = resample(noise(4, 8, 8, 8), 16)  # below the Nyquist limit, where signs are ambiguous
        measured = apply_wedge(everything, region)
        other = 3 * everything - 2 * measured
        given = [losses_of(model, batch(x, tilts=self.tilts)).total for x in (measured, other)]
        torch.testing.assert_close(*given)
        blind = [losses_of(model, batch(x)).total for x in (measured, other)]
        assert blind[1] > 1.1 * blind[0]

    def test_nothing_is_reconstructed_there(self):
        model = built("vae", VOLUMES)
        given = batch(noise(4, 16, 16, 16), tilts=self.tilts)
        found = model.reconstruct(given, model.encode(given)).detach()
        torch.testing.assert_close(apply_wedge(found, sampled_region(16, self.tilts, None)), found)
        assert not torch.allclose(found, model.reconstruct(batch(given.volumes), model.encode(given)))


class TestCodes:
    @pytest.mark.parametrize("spec", [VOLUMES, IMAGES], ids=["volumes", "images"])
    def test_one_code_or_two(self, spec):
        given = batch(noise(4, *spec.shape(spec.fine)))
        for name, width in (("vae", 0), ("vae-two-spaces", 2), ("beta-vae", 0), ("beta-tcvae", 0)):
            found = built(name, spec).encode(given)
            assert (found.content.shape, found.transform.shape) == ((4, 3), (4, width))

    def test_both_codes_are_decoded(self):
        model, zero = built("vae-two-spaces", IMAGES), torch.zeros(1, 3)
        drawn = [model.decode(c, t[:, :2], 8) for c, t in ((zero, zero), (zero + 1, zero), (zero, zero + 1))]
        assert not torch.allclose(drawn[0], drawn[1])
        assert not torch.allclose(drawn[0], drawn[2])

    def test_one_code_heeds_no_other(self):
        model, zero = built("vae", IMAGES), torch.zeros(1, 3)
        assert torch.equal(model.decode(zero, zero, 8), model.decode(zero, zero + 1, 8))


@pytest.mark.parametrize(("name", "dims"), [*((name, 2) for name in NAMES), ("vae", 3)])
def test_it_draws_particles_better_than_their_mean(name, dims):
    """A bright spot that wanders over a noisy box."""
    places = np.random.default_rng(0).uniform(-2, 2, (48, dims))
    grid = np.stack(np.meshgrid(*[np.arange(8) - 4.0] * dims, indexing="ij"), -1)
    squares = (grid - places.reshape(-1, *(1,) * dims, dims)) ** 2
    clean = torch.tensor(4 * np.exp(-squares.sum(-1) / 3)).float()
    given = batch(clean + 0.5 * noise(*clean.shape))
    model = built(name, Spec(dims=dims, coarse=8, fine=8, sphere=0.4, content=3, transform=2))
    optimiser, source = torch.optim.Adam(model.parameters(), 2e-3), torch.Generator().manual_seed(0)
    for _ in range(100):
        optimiser.zero_grad()
        model(given, source).total.backward()
        optimiser.step()
    error = (model.reconstruct(given, model.encode(given)) - clean) * model.sphere(8)
    spread = (clean - clean.mean(0)) * model.sphere(8)
    assert error.square().mean() < 0.5 * spread.square().mean()
