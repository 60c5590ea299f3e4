"""Distances between volumes, with or without a missing wedge, and between Gaussian codes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from napari_disentangle.fourier import ALONG_BEAM

if TYPE_CHECKING:
    from torch import Tensor


def kl_between(mean: Tensor, logvar: Tensor, other_mean: Tensor, other_logvar: Tensor) -> Tensor:
    """Return KL( N(mean, exp logvar) || N(other) ), mean over dimensions and batch.

    Harmony's cross-contrast of the two content codes of one particle (Uddin et al. 2022, eq. 5). Shapes (b, d).
    """
    ratio = (logvar - other_logvar).exp()
    distance = (mean - other_mean).square() / other_logvar.exp()
    return 0.5 * (other_logvar - logvar + ratio + distance - 1).mean()


def squared_distance(a: Tensor, b: Tensor, sphere: Tensor, sampled: Tensor | None = None) -> Tensor:
    """Return the squared difference of two sets of volumes, mean over voxels and batch.

    Parameters
    ----------
    a, b : (b, n, n, n)
    sphere : (n, n, n)
        Soft mask that both are multiplied by.
    sampled : (b, n, n, n // 2 + 1), optional
        Coefficients of ``rfftn`` in which both have data; others do not count.
    """
    difference = (a - b) * sphere
    if sampled is None:
        return difference.square().mean()
    n = difference.shape[-1]
    power = torch.fft.rfftn(difference, dim=(1, 2, 3), norm="ortho").abs().square()
    return (power * sampled * half_spectrum_weights(n, str(a.device))).sum(dim=(1, 2, 3)).mean() / n**3


@lru_cache(maxsize=16)
def half_spectrum_weights(n: int, device: str) -> Tensor:
    """Return (n // 2 + 1,): how often each column of ``rfftn`` stands in the full spectrum."""
    weights = torch.full((n // 2 + 1,), 2.0, device=device)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    return weights


@lru_cache(maxsize=16)
def frequencies(n: int, device: str) -> Tensor:
    """Return (n, n, n // 2 + 1, 3) frequencies of ``rfftn`` in cycles per voxel, xyz."""
    f = torch.fft.fftfreq(n, device=device)
    z, y, x = torch.meshgrid(f, f, torch.fft.rfftfreq(n, device=device), indexing="ij")
    return torch.stack([x, y, z], -1)


def sampled_region(n: int, tilts: Tensor, rotations: Tensor | None) -> Tensor:
    """Return which coefficients each particle's tilt series has sampled, after a rotation.

    Parameters
    ----------
    n : int
        Box, in voxels.
    tilts : (b, 2)
        Lowest and highest tilt in degrees; -90 and 90 for nothing missing.
    rotations : (b, 3, 3), optional
        Takes a frequency of the volume at hand to the tomogram: ``A`` for a particle aligned by ``A``.

    Returns
    -------
    (b, n, n, n // 2 + 1), 0 or 1
        As `fourier.sampled_directions`.
    """
    k = frequencies(n, str(tilts.device)).reshape(1, -1, 3)
    if rotations is not None:
        k = k @ rotations.transpose(1, 2)
    low, high = torch.tan(torch.deg2rad(tilts.clamp(-89.999, 89.999)))[:, :, None].unbind(1)
    x, z = k[..., 0], k[..., 2]
    z = torch.where(x < 0, -z, z)
    x = x.abs()
    along_beam = (x <= ALONG_BEAM) & (tilts.abs().amax(1, keepdim=True) >= 90)
    region = ((z <= high * x + 1e-6) & (z >= low * x - 1e-6)) | along_beam
    return region.reshape(len(tilts), n, n, n // 2 + 1).to(tilts.dtype)


def apply_wedge(volumes: Tensor, region: Tensor) -> Tensor:
    """Return volumes (b, n, n, n) without the coefficients outside `region` (b, n, n, n // 2 + 1)."""
    spectrum = torch.fft.rfftn(volumes, dim=(1, 2, 3)) * region
    return torch.fft.irfftn(spectrum, s=volumes.shape[1:], dim=(1, 2, 3))


def kl_to_prior(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return KL( N(mean, exp logvar) || N(0, I) ), mean over dimensions and batch.

    Kingma and Welling 2014, appendix B. Shapes (b, d).
    """
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()


def information_of_codes(sample: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mutual information of a code with its particle, and the total correlation of its dimensions, in nats.

    With q(z) the mixture of all particles' posteriors: ``E log q(z|n) - log q(z)`` and ``E log q(z) - sum log q(z_d)``,
    each density estimated from the batch (Chen et al. 2018, equation S4). Their factor 1 / N, of N particles in the
    set, moves both by a constant that no gradient sees, and away from 0 for independent dimensions: it is left out.
    Posteriors so narrow that none overlap in the batch give log b and (d - 1) log b whatever the code.

    Parameters
    ----------
    sample, mean, logvar : (b, d)
        Each row of `sample` drawn from N(mean, exp logvar) of its particle.

    Returns
    -------
    mutual_information, total_correlation : scalars
    """
    squares = (sample[:, None] - mean).square() / logvar.exp()
    density = -0.5 * (squares + logvar + math.log(2 * math.pi))  # (sample, posterior, dimension)
    own = density.diagonal().sum()
    mixed = torch.logsumexp(density.sum(-1), 1).sum()
    apart = torch.logsumexp(density, 1).sum()
    b, d = sample.shape
    return (own - mixed) / b + math.log(b), (mixed - apart) / b + (d - 1) * math.log(b)


def dependence(a: Tensor, b: Tensor) -> Tensor:
    """Return how much two codes of the same particles (n, d) and (n, e) know of each other, from 0 to 1.

    Centred kernel alignment (Gretton et al. 2005, the Hilbert-Schmidt independence criterion; Cortes et al. 2012, its
    normalisation) with Gaussian kernels as wide as the mean distance.
    """
    if len(a) < 4:
        return a.new_zeros(())
    one, two = _centred_kernel(a), _centred_kernel(b)
    return (one * two).sum() / (one.norm() * two.norm()).clamp_min(1e-8)


def _centred_kernel(codes: Tensor) -> Tensor:
    squares = (codes[:, None] - codes[None]).square().sum(-1)
    kernel = torch.exp(-squares / (squares.mean().detach() + 1e-8))
    return kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
