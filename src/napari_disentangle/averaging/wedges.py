"""The missing wedges of a selection: in each box, and added up in the frame of the average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.fourier import wedge_mask
from napari_disentangle.geometry import align_volumes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.particles import ParticleSet

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

CHUNK = 500_000
"""Voxels turned at once."""


@dataclass(frozen=True)
class Wedges:
    """What each particle's tilt series has sampled, its box's frame included."""

    ranges: Floats
    """(n, 2), lowest and highest tilt, in degrees."""
    frames: Floats | None
    """(n, 3, 3), box to tomogram."""

    def masks(self, size: int, rows: Ints, device: str) -> tuple[Tensor, Tensor]:
        """Return the distinct masks of `rows`, (g, size, size, size // 2 + 1), and the mask of each, (len(rows),)."""
        import torch

        frames = None if self.frames is None else self.frames[rows]
        ranges = self.ranges[rows]
        key = ranges if frames is None else np.concatenate([ranges, frames.reshape(-1, 9)], axis=1)
        _, first, which = np.unique(key.round(6), axis=0, return_index=True, return_inverse=True)
        masks = [
            wedge_mask(size, (float(ranges[k, 0]), float(ranges[k, 1])), None if frames is None else frames[k])
            for k in first
        ]
        return torch.as_tensor(np.stack(masks)).to(device, torch.float32), torch.as_tensor(which.reshape(-1)).to(device)


def wedges_of(particles: ParticleSet) -> Wedges | None:
    """Return the wedges of `particles`, or None where nothing is known to be missing."""
    ranges = particles.tilt_ranges()
    return None if ranges is None else Wedges(ranges, particles.frames)


def coverage(masks: Tensor, mask_of: Tensor, rotations: Tensor) -> Tensor:
    """Add up particles' masks in the reference's frame: how often each coefficient of their sum was sampled.

    A wedge is the same for k and -k, so that, as a centred volume, it is turned and interpolated like the boxes are.

    Parameters
    ----------
    masks : (g, n, n, n // 2 + 1)
    mask_of : (b,)
        Index into `masks`.
    rotations : (b, 3, 3)
        ``A``.

    Returns
    -------
    (n, n, n // 2 + 1)
    """
    import torch

    n = masks.shape[1]
    whole = torch.fft.fftshift(_both_halves(masks), dim=(1, 2, 3))
    total = torch.zeros(n, n, n, device=masks.device)
    chunk = max(1, CHUNK // n**3)
    for which, turns in zip(mask_of.split(chunk), rotations.split(chunk), strict=True):
        total += align_volumes(whole[which], turns, torch.zeros(len(turns), 3, device=masks.device)).sum(0)
    return torch.fft.ifftshift(total)[..., : n // 2 + 1]


def _both_halves(masks: Tensor) -> Tensor:
    """Complete (g, c, c, c // 2 + 1) masks of ``rfftn`` to (g, c, c, c) by ``m(-k) = m(k)``."""
    import torch

    c = masks.shape[1]
    back = (-torch.arange(c, device=masks.device)) % c
    rest = masks[:, back][:, :, back][..., 1 : (c + 1) // 2].flip(-1)
    return torch.cat([masks, rest], -1)
