"""The networks that models are built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.fourier import resampling_matrix

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Spec


class ConvEncoder(nn.Module):
    """Three stride-2 convolutions and a linear layer: particles at the coarse size to (b, features)."""

    def __init__(self, spec: Spec, features: int = 256, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        convolution = nn.Conv3d if spec.dims == 3 else nn.Conv2d
        layers: list[nn.Module] = []
        for inward, outward in zip((spec.channels, *widths[:-1]), widths, strict=True):
            layers += [convolution(inward, outward, 4, 2, 1), nn.LeakyReLU(0.1)]
        self.grid = (spec.channels, *(spec.coarse,) * spec.dims)
        self.convolutions = nn.Sequential(*layers)
        self.features = nn.Sequential(
            nn.Linear(widths[-1] * (spec.coarse // 8) ** spec.dims, features), nn.LeakyReLU(0.1)
        )

    def forward(self, particles: Tensor) -> Tensor:
        """Return (b, features) of particles (b, ...) at the coarse size."""
        return self.features(self.convolutions(particles.reshape(len(particles), *self.grid)).flatten(1))


class Decoder(nn.Module):
    """Codes (b, d) to particles at a coarse size, and at a fine size as the coarse volume plus a correction.

    The fine stage starts where the coarse one ended: its last layer is zero at first. Images have one size.
    """

    def __init__(self, codes: int, spec: Spec) -> None:
        super().__init__()
        self.spec, self.coarse, self.fine = spec, spec.coarse, spec.fine
        width = 5000 if spec.decoder == "dense" else 512
        self.volume = nn.Sequential(
            nn.Linear(codes, 256), nn.LeakyReLU(0.1), nn.Linear(256, width), nn.LeakyReLU(0.1),
            nn.Linear(width, spec.channels * spec.coarse**spec.dims),
        )  # fmt: skip
        if spec.dims == 3:
            seed = spec.fine // 8
            last = nn.ConvTranspose3d(16, 1, 4, 2, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
            self.correction = nn.Sequential(
                nn.Linear(codes, 64 * seed**3), nn.LeakyReLU(0.1), nn.Unflatten(1, (64, seed, seed, seed)),
                nn.ConvTranspose3d(64, 32, 4, 2, 1), nn.LeakyReLU(0.1),
                nn.ConvTranspose3d(32, 16, 4, 2, 1), nn.LeakyReLU(0.1),
                last,
            )  # fmt: skip

    def forward(self, codes: Tensor, size: int) -> Tensor:
        """Return particles of codes (b, d), of shape ``spec.shape(size)``; `size` is the coarse or the fine one."""
        coarse = self.volume(codes).reshape(-1, *self.spec.shape(self.coarse))
        if size == self.coarse:
            return coarse
        if size != self.fine:
            raise ValueError(f"this decoder makes {self.coarse} or {self.fine} voxels, not {size}")
        return resample(coarse, self.fine) + self.correction(codes)[:, 0]


def resample(volumes: Tensor, size: int) -> Tensor:
    """Return volumes (b, n, n, n) at another number of voxels per edge, band-limited, the centre kept at n // 2."""
    n = volumes.shape[-1]
    if n == size:
        return volumes
    matrix = torch.as_tensor(resampling_matrix(n, size, n / size), dtype=volumes.dtype, device=volumes.device)
    return torch.einsum("bzyx,iz,jy,kx->bijk", volumes, matrix, matrix, matrix)


def soft_sphere(n: int, radius: float, edge: float = 2.0, dims: int = 3) -> Tensor:
    """Return an (n, n, n) mask about voxel n // 2: 1 within `radius` voxels, falling to 0 over `edge` about it.

    With two `dims` a disc, (n, n).
    """
    axis = (torch.arange(n, dtype=torch.float32) - n // 2) ** 2
    squares = axis[:, None] + axis[None, :]
    distance = (squares if dims == 2 else axis[:, None, None] + squares).sqrt()
    return ((radius + edge / 2 - distance) / edge).clamp(0, 1)
