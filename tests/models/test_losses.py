"""Distances, wedges and divergences agree with their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from napari_disentangle.fourier import wedge_mask
from napari_disentangle.geometry import align_volumes, euler_to_matrix, random_rotations
from napari_disentangle.models.losses import (
    apply_wedge,
    half_spectrum_weights,
    kl_between,
    sampled_region,
    squared_distance,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestKL:
    def test_it_is_the_mean_of_torchs_own(self):
        mean, logvar, other, other_logvar = (noise(5, 3, seed=k) for k in range(4))
        one, two = Normal(mean, (logvar / 2).exp()), Normal(other, (other_logvar / 2).exp())
        assert float(kl_between(mean, logvar, other, other_logvar)) == pytest.approx(
            float(kl_divergence(one, two).mean()), rel=1e-5
        )

    def test_a_code_is_no_distance_from_itself(self):
        mean, logvar = noise(5, 3), noise(5, 3, seed=1)
        assert float(kl_between(mean, logvar, mean, logvar)) == pytest.approx(0, abs=1e-7)


class TestSquaredDistance:
    @pytest.mark.parametrize("n", [7, 8])
    def test_where_everything_is_sampled_both_ways_agree(self, n):
        a, b, sphere = noise(3, n, n, n), noise(3, n, n, n, seed=1), noise(n, n, n, seed=2).abs()
        everything = torch.ones(3, n, n, n // 2 + 1)
        plain = squared_distance(a, b, sphere)
        assert float(plain) == pytest.approx(float(((a - b) * sphere).square().mean()), rel=1e-6)
        assert float(squared_distance(a, b, sphere, everything)) == pytest.approx(float(plain), rel=1e-5)

    def test_what_was_not_sampled_does_not_count(self):
        n = 8
        region = sampled_region(n, torch.tensor([[-60.0, 60.0]]), None)
        outside = apply_wedge(noise(1, n, n, n), 1 - region)
        a = noise(1, n, n, n, seed=1)
        whole = torch.ones(n, n, n)
        assert float(squared_distance(a, a + outside, whole)) > 1e-2
        assert float(squared_distance(a, a + outside, whole, region)) < 1e-10

    def test_each_column_of_rfftn_stands_for_itself_and_its_conjugate(self):
        assert half_spectrum_weights(8, "cpu").tolist() == [1, 2, 2, 2, 1]
        assert half_spectrum_weights(7, "cpu").tolist() == [1, 2, 2, 2]


class TestSampledRegion:
    @pytest.mark.parametrize("n", [9, 16])
    @pytest.mark.parametrize("tilts", [(-60, 60), (-40, 63), (-90, 90), (-90, 30), (5, 50)])
    def test_it_is_the_wedge_of_the_files(self, n, tilts):
        region = sampled_region(n, torch.tensor([tilts], dtype=torch.float32), None)[0]
        np.testing.assert_array_equal(region.numpy().astype(bool), wedge_mask(n, tilts))

    def test_it_turns_like_the_wedge_of_the_files(self):
        tilts = torch.tensor([[-60.0, 60.0], [-40.0, 63.0], [-50.0, 20.0], [-90.0, 90.0]])
        frames = random_rotations(4, np.random.default_rng(0))
        region = sampled_region(15, tilts, torch.tensor(frames, dtype=torch.float32)).numpy().astype(bool)
        for k in range(4):
            expected = wedge_mask(15, tuple(tilts[k].tolist()), frames[k])
            assert (region[k] != expected).mean() < 1e-3  # single precision, on the very edge

    def test_nothing_is_missing_from_minus_90_to_90_however_turned(self):
        turned = torch.tensor(random_rotations(3, np.random.default_rng(0)), dtype=torch.float32)
        assert sampled_region(12, torch.tensor([[-90.0, 90.0]] * 3), turned).all()

    def test_aligning_a_particle_turns_its_wedge_by_its_rotation(self):
        """The physics: what a wedge has left of a volume, aligned by A, has its power where A says."""
        n = 24
        rotation = torch.tensor(euler_to_matrix([(30, 50, -20)]), dtype=torch.float32)
        tilts = torch.tensor([[-40.0, 40.0]])
        axis = torch.arange(n) - n // 2
        inside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt() < 9
        cut = apply_wedge(noise(1, n, n, n) * inside, sampled_region(n, tilts, None))
        aligned = align_volumes(cut, rotation, torch.zeros(1, 3))
        power = torch.fft.rfftn(aligned, dim=(1, 2, 3)).abs().square()
        f = torch.fft.fftfreq(n) * n
        low = (f[:, None, None] ** 2 + f[:, None] ** 2 + f[: n // 2 + 1] ** 2).sqrt() < 7

        def contrast(turn: torch.Tensor) -> float:
            region = sampled_region(n, tilts, turn)[0] > 0
            return float(power[0][low & region].mean() / power[0][low & ~region].mean())

        assert contrast(rotation) > 5
        assert contrast(rotation) > 3 * contrast(rotation.transpose(1, 2))


class TestApplyWedge:
    def test_it_zeroes_what_it_should_and_nothing_else(self):
        n = 12
        volumes = noise(2, n, n, n)
        region = sampled_region(n, torch.tensor([[-60.0, 60.0], [-30.0, 50.0]]), None)
        before = torch.fft.rfftn(volumes, dim=(1, 2, 3))
        after = torch.fft.rfftn(apply_wedge(volumes, region), dim=(1, 2, 3))
        nyquist = torch.zeros(n, n, n // 2 + 1, dtype=torch.bool)  # where a coefficient and its conjugate share a place
        nyquist[n // 2], nyquist[:, n // 2], nyquist[..., n // 2] = True, True, True
        missing, kept = (region == 0) & ~nyquist, (region == 1) & ~nyquist
        assert after[missing].abs().max() < 1e-4
        np.testing.assert_allclose(after[kept], before[kept], atol=1e-4)

    def test_a_second_time_changes_nothing(self):
        n = 11
        region = sampled_region(n, torch.tensor([[-60.0, 60.0]]), None)
        once = apply_wedge(noise(1, n, n, n), region)
        np.testing.assert_allclose(apply_wedge(once, region), once, atol=1e-6)
