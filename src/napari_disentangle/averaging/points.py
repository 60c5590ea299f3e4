"""Turning volumes only where it matters: at the voxels of the particle's sphere, a third to a quarter of the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CHUNK = 500_000
"""Points sampled at once; the cache is happiest with few."""


def sphere(n: int, radius: float, soft: float = 0.0) -> NDArray[np.float32]:
    """Return a (n, n, n) mask about voxel n // 2: 1 within `radius` voxels, then a cosine edge `soft` voxels wide."""
    axis = np.arange(n) - n // 2
    r = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    if not soft:
        return (r <= radius).astype(np.float32)
    return (0.5 + 0.5 * np.cos(np.pi * np.clip((r - radius) / soft, 0, 1))).astype(np.float32)


@dataclass(frozen=True)
class Sphere:
    """The voxels of a sphere about the centre of a cubic box."""

    size: int
    """Voxels per axis of the box."""
    index: Tensor
    """(v,), into the flattened box."""
    points: Tensor
    """(v, 3), from the centre voxel, xyz."""

    @classmethod
    def of(cls, size: int, radius: float, device: str) -> Sphere:
        """Return the voxels within `radius` of voxel size // 2."""
        import torch

        zyx = np.argwhere(sphere(size, radius) > 0)
        index = np.ravel_multi_index(tuple(zyx.T), (size, size, size))
        points = np.ascontiguousarray((zyx - size // 2)[:, ::-1])
        return cls(size, torch.as_tensor(index).to(device), torch.as_tensor(points).to(device).float())

    def __len__(self) -> int:
        return len(self.index)

    def of_volumes(self, volumes: Tensor) -> Tensor:
        """Return the values (b, v) of volumes (b, size, size, size) in the sphere."""
        return volumes.flatten(1)[:, self.index]

    def aligned(self, volume: Tensor, rotations: Tensor, shifts: Tensor) -> Tensor:
        """Return `geometry.align_volumes` of one volume for each pose, (b, 3, 3) and (b, 3), in the sphere, (b, v)."""
        return self._sample(volume[None, None], rotations.transpose(1, 2), shifts)[0]

    def placed(self, volume: Tensor, rotations: Tensor) -> Tensor:
        """Return `geometry.place_volumes` of one volume for each rotation (b, 3, 3), in the sphere only, (b, v)."""
        import torch

        parts = [self._sample(volume[None, None], part)[0] for part in rotations.split(max(1, CHUNK // len(self)))]
        return torch.cat(parts)

    def aligned_sum(self, values: Tensor, rotations: Tensor) -> Tensor:
        """Turn spheres (b, v) back by their rotations (`geometry.align_volumes`); return their sum, one box."""
        import torch

        total = torch.zeros(len(self), device=values.device)
        chunk = max(1, CHUNK // self.size**3)
        for part, turns in zip(values.split(chunk), rotations.split(chunk), strict=True):
            volumes = self.filled(part)
            # One output row per volume: the grid's batch is the volumes', and each is sampled by one rotation
            total += self._sample(volumes[:, None], turns.transpose(1, 2)[:, None])[:, 0].sum(0)
        return self.filled(total[None])[0]

    def filled(self, values: Tensor) -> Tensor:
        """Return (b, size, size, size) with the values (b, v) in the sphere and 0 outside."""
        import torch

        full = torch.zeros(len(values), self.size**3, device=values.device)
        full[:, self.index] = values
        return full.view(-1, self.size, self.size, self.size)

    def _sample(self, volumes: Tensor, rotations: Tensor, shifts: Tensor | None = None) -> Tensor:
        """Sample (b, 1, z, y, x) at ``A^T x + p``; rotations (b, k, 3, 3), or (k, 3, 3) and (k, 3) where b is 1.

        Return (b, k, v).
        """
        import torch.nn.functional as F

        rotations = rotations if rotations.ndim == 4 else rotations[None]
        b, k = rotations.shape[:2]
        source = (self.points @ rotations.reshape(-1, 3, 3)).view(b, k, 1, len(self), 3)
        if shifts is not None:
            source = source + shifts[None, :, None, None]
        grid = (source + (self.size // 2 + 0.5)) * (2 / self.size) - 1
        return F.grid_sample(volumes, grid, align_corners=False)[:, 0, :, 0]
