"""Boxes: a selection's particles in Fourier space, standardised, at the size one stage of the alignment works at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging.points import sphere
from napari_disentangle.fourier import fourier_crop, shell_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.averaging.wedges import Wedges
    from napari_disentangle.particles import ParticleSet

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

READ_BYTES = 16 * 2**20
"""Of boxes held at once while they are read."""


def read_chunks(particles: ParticleSet, rows: Ints) -> Iterator[tuple[Ints, NDArray[np.float32]]]:
    """Yield boxes of `rows` a few at a time, as (where in `rows`, boxes)."""
    assert particles.volumes is not None
    n = particles.volumes.shape[-1]
    size = max(1, READ_BYTES // (4 * n**3))
    for start in range(0, len(rows), size):
        at = np.arange(start, min(start + size, len(rows)))
        yield at, particles.volumes.read(rows[at])


def level(volumes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (b, 1, 1, 1), the grey level of boxes (b, n, n, n): the mean of each beyond the sphere of diameter n."""
    n = volumes.shape[-1]
    return volumes[:, sphere(n, n / 2) == 0].mean(1)[:, None, None, None]


def standardise(volumes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return boxes (b, z, y, x) of mean 0 and standard deviation 1, so that no box outweighs the others."""
    mean = volumes.mean((1, 2, 3), keepdims=True)
    deviation = volumes.std((1, 2, 3), keepdims=True)
    return (volumes - mean) / np.maximum(deviation, 1e-12)


@dataclass(frozen=True)
class Boxes:
    """Standardised particles of one size in Fourier space."""

    transforms: Tensor
    """(n, c, c, c // 2 + 1), ``rfftn``, moved by ``-offset`` where particles start from imported offsets."""
    step: float
    """Voxels of the input per voxel here."""
    masks: Tensor | None
    """(g, c, c, c // 2 + 1), distinct wedges; None where nothing is missing."""
    mask_of: Tensor | None
    """(n,) index into `masks`."""
    noise: Tensor
    """(shells,), mean power per voxel and coefficient. It holds the signal too, so weights err on the careful side."""
    shell: Tensor
    """(c, c, c // 2 + 1), index of the shell."""

    def __len__(self) -> int:
        return len(self.transforms)

    @property
    def size(self) -> int:
        """Voxels per axis."""
        return self.transforms.shape[1]

    def whitened(self, rows: Tensor, band: Tensor) -> Tensor:
        """Return ``W X / noise`` within `band` for some particles, (b, c, c, c // 2 + 1)."""
        filtered = self.transforms[rows] * (band / self.noise[self.shell].clamp_min(1e-9))
        return filtered if self.masks is None or self.mask_of is None else filtered * self.masks[self.mask_of[rows]]


def load_boxes(
    particles: ParticleSet, rows: Ints, size: int, wedges: Wedges | None, offsets: Floats | None, device: str
) -> Boxes:
    """Read `rows` of `particles` at `size` voxels per axis.

    Parameters
    ----------
    offsets : (len(rows), 3), optional
        In voxels of the input, xyz: where the search for the shift starts.
    """
    import torch

    assert particles.volumes is not None
    n = particles.volumes.shape[-1]
    step = n / size
    parts: list[Tensor] = []
    for at, volumes in read_chunks(particles, rows):
        small = standardise(volumes if size == n else fourier_crop(volumes, size))
        transforms = torch.fft.rfftn(torch.as_tensor(small).to(device), dim=(1, 2, 3))
        if offsets is not None:
            transforms = transforms * phases(size, offsets[at] / step, device)
        parts.append(transforms)
    transforms = torch.cat(parts)
    shell = torch.as_tensor(shell_index(size)).to(device)
    if wedges is None:
        masks = mask_of = None
    else:
        masks, mask_of = wedges.masks(size, rows, device)
    seen = None if masks is None or mask_of is None else masks[mask_of].mean(0) if len(masks) > 1 else masks[0]
    power = torch.stack([part.abs().square().sum(0) for part in transforms.split(256)]).sum(0)
    power = power / (len(transforms) * size**3)
    if seen is not None:
        power = power * (seen > 0)
    noise = shell_sum(power, shell) / shell_sum(torch.ones_like(power) if seen is None else seen, shell).clamp_min(1e-9)
    return Boxes(transforms, step, masks, mask_of, noise, shell)


def phases(size: int, shifts: Floats, device: str) -> Tensor:
    """Return factors (t, size, size, size // 2 + 1) that shift ``f(x)`` to ``f(x + s)``, (t, 3) in voxels, xyz."""
    import torch

    f, h = (
        torch.as_tensor(k, device=device, dtype=torch.float32) for k in (np.fft.fftfreq(size), np.fft.rfftfreq(size))
    )
    x, y, z = (2 * torch.pi * torch.as_tensor(shifts, device=device, dtype=torch.float32)).unbind(-1)
    angle = (
        z[:, None, None, None] * f[None, :, None, None]
        + y[:, None, None, None] * f[None, None, :, None]
        + x[:, None, None, None] * h[None, None, None, :]
    )
    return torch.polar(torch.ones_like(angle), angle)


def both_sides(values: Tensor) -> Tensor:
    """Return values (..., c, c, c // 2 + 1) doubled where ``rfftn`` holds one coefficient for a pair."""
    import torch

    twice = torch.full((values.shape[-1],), 2.0, device=values.device)
    twice[0] = 1.0
    if values.shape[-2] % 2 == 0:
        twice[-1] = 1.0
    return values * twice


def shell_sum(values: Tensor, shell: Tensor) -> Tensor:
    """Sum real `values` over each shell, both halves of Fourier space counted; all (c, c, c // 2 + 1)."""
    import torch

    return torch.bincount(shell.flatten(), both_sides(values).flatten(), int(shell.max()) + 1)


def interpolation_transfer(size: int, device: str) -> Tensor:
    """Return what trilinear sampling leaves of each frequency, (size, size, size // 2 + 1): ``sinc^2`` on each axis."""
    import torch

    f, h = (np.sinc(k) ** 2 for k in (np.fft.fftfreq(size), np.fft.rfftfreq(size)))
    product = f[:, None, None] * f[None, :, None] * h[None, None, :]
    return torch.as_tensor(product).to(device, torch.float32)
