"""Deforming Autoencoder: a texture in a template, and the deformation that brings it into place.

Shu et al., "Deforming autoencoders: unsupervised disentangling of shape and appearance", ECCV 2018; written from its
equations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from napari_disentangle.models.base import Batch, Encoding, Losses
from napari_disentangle.models.losses import squared_distance
from napari_disentangle.models.module import DisentanglingModel
from napari_disentangle.models.nets import ConvEncoder, Decoder
from napari_disentangle.models.warps import (
    AFFINE,
    affine_matrices,
    affine_points,
    increments_of,
    integrated_points,
    sample,
    still_points,
    total_variation,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Spec

WIDTH = 256
"""Features of the encoder."""
GRID = 16
"""Most increments per edge that are decoded; bilinear between them."""
SMOOTHNESS = 0.01
"""Weight of the total variation of the increments."""
BIAS = 0.01
"""Weight of what the mean warp of a batch differs from the identity."""


class DeformingAutoencoder(DisentanglingModel):
    """The Deforming Autoencoder of images, without its shading.

    An encoder gives a texture code and a warp code. The first is decoded to a texture T; the second to positive
    increments, which sum up to a deformation W that never folds, and to an affine transformation A. The image is
    x'(p) = T(A W(p)), and

        loss = D(x, x') + l_1 TV(increments) + l_2 [ |mean W - identity|^2 + |mean A - identity|^2 ]

    with means over the batch: without the last term, the template may be deformed as long as every warp makes up for
    it. There is no prior; both codes are points.

    Parameters
    ----------
    spec : Spec
        Of particular meaning here: `max_shift` bounds the affine shift. `weight` and `kl` have none.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = ConvEncoder(spec, WIDTH)
        self.content = nn.Linear(WIDTH, spec.content)
        self.transform = nn.Linear(WIDTH, spec.transform)
        self.decoder = Decoder(spec.content, spec)
        self.grid = min(GRID, spec.fine)
        self.warp = nn.Sequential(
            nn.Linear(spec.transform, 128), nn.LeakyReLU(0.1), nn.Linear(128, AFFINE + 2 * self.grid**2)
        )
        with torch.no_grad():  # warps start small
            self.warp[-1].weight.mul_(0.1)  # pyright: ignore[reportOperatorIssue, reportCallIssue]
            self.warp[-1].bias.zero_()  # pyright: ignore[reportCallIssue]

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the texture code and the warp code."""
        features = self.encoder(images * self.sphere(images.shape[-1]))
        return self.content(features), self.transform(features)

    def _warp(self, transform: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Return the affine matrices (b, 2, 3) and the increments (b, 2, n, n) of warp codes."""
        numbers = self.warp(transform)
        matrices = affine_matrices(numbers[:, :AFFINE], self.spec.max_shift)
        increments = increments_of(numbers[:, AFFINE:].reshape(-1, 2, self.grid, self.grid))
        return matrices, F.interpolate(increments, (n, n), mode="bilinear", align_corners=True)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return the texture codes and the warp codes of a batch."""
        return Encoding(*self._encode(batch.volumes))

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return the images of texture codes (b, c), deformed as warp codes (b, t) say."""
        matrices, increments = self._warp(transform, size)
        return sample(self.decoder(content, size), affine_points(matrices, integrated_points(increments)))

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; nothing in this model is random."""
        del generator
        x, spec = batch.volumes, self.spec
        n = x.shape[-1]
        content, transform = self._encode(x)
        matrices, increments = self._warp(transform, n)
        points = integrated_points(increments)
        decoded = sample(self.decoder(content, n), affine_points(matrices, points))
        reconstruction = squared_distance(decoded, x, self.sphere(n))
        smoothness = total_variation(increments)
        identity = torch.eye(3, device=x.device, dtype=x.dtype)[:2]
        bias = (points.mean(0) - still_points(n, x)).square().mean() + (matrices.mean(0) - identity).square().mean()
        total = reconstruction * (x[0].numel() if spec.summed else 1) + SMOOTHNESS * smoothness + BIAS * bias
        terms = {"reconstruction": reconstruction, "smoothness": smoothness, "bias": bias}
        return Losses(total, {name: term.detach() for name, term in terms.items()})
