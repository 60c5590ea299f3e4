"""A lopsided molecule of Gaussian blobs, and particles of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_disentangle.fourier import wedge_mask
from napari_disentangle.geometry import place_volumes, random_rotations
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOXEL = 10.0
BLOBS = ((0, 0, 0, 1.0), (4, 0, 0, 1.0), (0, 3, 1, 1.0), (-2, -3, 2, 1.5), (1, 1, -4, 0.8), (-4, 2, -1, 0.7))
"""x, y, z from the centre in voxels of a box of 20, and weight: no symmetry and no mirror image of itself."""


class Sample(NamedTuple):
    particles: ParticleSet
    truth: Pose
    molecule: NDArray[np.float32]


def molecule(n: int = 20) -> NDArray[np.float32]:
    axis = np.arange(n) - n // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    total = np.zeros((n, n, n))
    for bx, by, bz, weight in BLOBS:
        total += weight * np.exp(-((x - bx) ** 2 + (y - by) ** 2 + (z - bz) ** 2) / (2 * 1.4**2))
    return total.astype(np.float32)


def place(
    volume: NDArray[np.float32], rotations: NDArray[np.float64], shifts: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Put a volume at poses, shifts in voxels."""
    n = len(volume)
    stack = torch.as_tensor(volume).expand(len(rotations), n, n, n)
    return place_volumes(stack, torch.as_tensor(rotations).float(), torch.as_tensor(shifts).float()).numpy()


def sample(count: int, *, noise: float, shift: float = 1.5, wedge: float | None = None, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    volume = molecule()
    rotations, shifts = random_rotations(count, rng), rng.uniform(-shift, shift, (count, 3))
    boxes = place(volume, rotations, shifts)
    boxes += noise * boxes.std() * rng.standard_normal(boxes.shape, dtype=np.float32)
    if wedge is not None:
        seen = wedge_mask(20, (-wedge, wedge))
        boxes = np.fft.irfftn(np.fft.rfftn(boxes, axes=(1, 2, 3)) * seen, s=(20, 20, 20), axes=(1, 2, 3)).astype(
            np.float32
        )
    particles = ParticleSet(
        path=Path("particles.star"),
        ids=np.arange(count, dtype=np.int64) * 3 + 1,
        volumes=ArrayVolumes(boxes),
        voxel_size=VOXEL,
        tilt_range=None if wedge is None else (-wedge, wedge),
    )
    return Sample(particles, Pose(rotations, shifts * VOXEL), volume)
