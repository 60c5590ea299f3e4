"""The networks that models are built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.fourier import resampling_matrix

if TYPE_CHECKING:
    from torch import Tensor


class ConvEncoder(nn.Module):
    """Three stride-2 convolutions and a linear layer: volumes (b, n, n, n), n a multiple of 8, to (b, features)."""

    def __init__(self, size: int, features: int = 256, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inward, outward in zip((1, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv3d(inward, outward, 4, 2, 1), nn.LeakyReLU(0.1)]
        self.convolutions = nn.Sequential(*layers)
        self.features = nn.Sequential(nn.Linear(widths[-1] * (size // 8) ** 3, features), nn.LeakyReLU(0.1))

    def forward(self, volumes: Tensor) -> Tensor:
        """Return (b, features) of volumes (b, n, n, n)."""
        return self.features(self.convolutions(volumes[:, None]).flatten(1))


class VolumeDecoder(nn.Module):
    """Codes (b, d) to volumes at a coarse size, and at a fine size as the coarse volume plus a correction.

    The fine stage starts where the coarse one ended: its last layer is zero at first.
    """

    def __init__(self, dims: int, coarse: int, fine: int) -> None:
        super().__init__()
        self.coarse, self.fine = coarse, fine
        self.volume = nn.Sequential(
            nn.Linear(dims, 256), nn.LeakyReLU(0.1), nn.Linear(256, 512), nn.LeakyReLU(0.1), nn.Linear(512, coarse**3)
        )
        seed = fine // 8
        last = nn.ConvTranspose3d(16, 1, 4, 2, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
        self.correction = nn.Sequential(
            nn.Linear(dims, 64 * seed**3), nn.LeakyReLU(0.1), nn.Unflatten(1, (64, seed, seed, seed)),
            nn.ConvTranspose3d(64, 32, 4, 2, 1), nn.LeakyReLU(0.1),
            nn.ConvTranspose3d(32, 16, 4, 2, 1), nn.LeakyReLU(0.1),
            last,
        )  # fmt: skip

    def forward(self, codes: Tensor, size: int) -> Tensor:
        """Return (b, size, size, size) volumes of codes (b, d); `size` is `coarse` or `fine`."""
        volume = self.volume(codes).reshape(-1, self.coarse, self.coarse, self.coarse)
        if size == self.coarse:
            return volume
        if size != self.fine:
            raise ValueError(f"this decoder makes {self.coarse} or {self.fine} voxels, not {size}")
        return resample(volume, self.fine) + self.correction(codes)[:, 0]


def resample(volumes: Tensor, size: int) -> Tensor:
    """Return volumes (b, n, n, n) at another number of voxels per edge, band-limited, the centre kept at n // 2."""
    n = volumes.shape[-1]
    if n == size:
        return volumes
    matrix = torch.as_tensor(resampling_matrix(n, size, n / size), dtype=volumes.dtype, device=volumes.device)
    return torch.einsum("bzyx,iz,jy,kx->bijk", volumes, matrix, matrix, matrix)


def soft_sphere(n: int, radius: float, edge: float = 2.0) -> Tensor:
    """Return an (n, n, n) mask about voxel n // 2: 1 within `radius` voxels, falling to 0 over `edge` about it."""
    axis = torch.arange(n, dtype=torch.float32) - n // 2
    distance = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    return ((radius + edge / 2 - distance) / edge).clamp(0, 1)
