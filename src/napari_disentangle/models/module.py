"""The torch module that every model is: masks, codes and the map from invariants to content, written once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.geometry import place_volumes
from napari_disentangle.models.base import MOST_FAMILIES
from napari_disentangle.models.losses import apply_wedge, sampled_region
from napari_disentangle.models.nets import resample, soft_sphere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.models.base import Batch, Differences, Encoding, Losses, Spec


class DisentanglingModel(nn.Module):
    """A model that separates what a particle is from how it lies or bends.

    Subclasses write `forward` (the losses: wrappers such as DDP see nothing else), `encode` and, where they decode,
    `decode`. Models are called with a batch and a generator on the CPU, which makes every random number.
    """

    explicit = False
    """Whether the transformation code is the pose itself."""
    takes_eigenvolumes: Differences | None = None
    """Along which eigenvolumes of posed particles (`training.eigenvolumes`) a code is read, if any."""
    remark = ""
    """What the user should know of the solution of a linear model: a sentence, or nothing."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        for n in {spec.coarse, spec.fine}:
            shape = (n,) * spec.dims
            mask = soft_sphere(n, spec.sphere * n, dims=spec.dims) if spec.sphere else torch.ones(shape)
            self.register_buffer(f"sphere_{n}", mask, persistent=False)

        # the linear map from invariants to content, which is never trained
        self.register_buffer("feature_mean", torch.zeros(spec.features))
        self.register_buffer("feature_scale", torch.ones(spec.features))
        self.register_buffer("anchor", torch.zeros(spec.features, spec.content))

    def anchor_content(self, mean: Tensor, scale: Tensor, anchor: Tensor) -> None:
        """Set the linear map from invariants to content: ``((invariants - mean) / scale) @ anchor``.

        Parameters
        ----------
        mean, scale : (m,)
        anchor : (m, c)
        """
        for name, value in (("feature_mean", mean), ("feature_scale", scale), ("anchor", anchor)):
            self.get_buffer(name).copy_(value)

    def features_of(self, batch: Batch) -> Tensor:
        """Return the invariants of a batch (b, m), standardised and clipped; (b, 0) where the model sees none."""
        if not self.spec.features:
            return batch.invariants[:, :0]
        scaled = (batch.invariants - self.get_buffer("feature_mean")) / self.get_buffer("feature_scale")
        return scaled.clamp(-6, 6)

    @property
    def seen_size(self) -> int:
        """Voxels per edge at which particles are encoded."""
        return self.spec.coarse

    def sphere(self, size: int) -> Tensor:
        """Return the soft mask that voxels are compared inside of, (n, n, n) or (n, n)."""
        return self.get_buffer(f"sphere_{size}")

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch."""
        raise NotImplementedError

    def encode(self, batch: Batch) -> Encoding:
        """Return the codes of a batch; no gradients, no randomness."""
        raise NotImplementedError

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return the particles of codes (b, c) and (b, t), in the canonical pose where the model has poses.

        Of shape ``spec.shape(size)``, in standardised units. An explicit transformation moves nothing here.
        """
        raise NotImplementedError

    def reconstruct(self, batch: Batch, code: Encoding) -> Tensor:
        """Return what the codes say that the particles of a batch look like, as they lie in their boxes."""
        size = batch.volumes.shape[-1]
        placed = self.decode(code.content, code.transform, size)
        if code.rotations is not None and code.shifts is not None:
            placed = place_volumes(placed, code.rotations, code.shifts * size)
        if batch.tilts is None:
            return placed
        return apply_wedge(placed, sampled_region(size, batch.tilts, batch.frames))

    def small(self, particles: Tensor) -> Tensor:
        """Return particles (b, ...) as encoders see them: at the coarse size, inside the soft sphere."""
        coarse = self.spec.coarse
        return resample(particles, coarse) * self.sphere(coarse)

    def bound(self, reconstruction: Tensor, nats: Tensor) -> Tensor:
        """Return the loss of a mean squared distance and of what codes cost, in nats a particle.

        ``reconstruction + 2 nats / V`` with the V voxels of the fine size; times V / 2 where distances are summed,
        which is the evidence bound of voxels of unit variance.
        """
        voxels = math.prod(self.spec.shape(self.spec.fine))
        total = reconstruction + nats * 2 / voxels
        return total * voxels / 2 if self.spec.summed else total

    def solve(self, particles: NDArray[np.float32], invariants: NDArray[np.float32], seed: int) -> None:
        """Fit a linear model to all particles (n, ...) and their invariants (n, m); others are trained by steps."""
        raise NotImplementedError

    def settle(self, transform: NDArray[np.float32] | None, families: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Take note of the transformation codes (n, t) of all particles before they are kept; return them as kept.

        Called with None first: what an earlier call has noted is forgotten, and codes are made without it.
        """
        del families
        return transform

    def make_room(self, of: Differences, count: int) -> None:
        """Make room for so many eigenvolumes of each canonical frame."""
        self.takes_eigenvolumes = of
        edges = (self.spec.coarse,) * 3
        self.register_buffer("eigen_mean", torch.zeros(MOST_FAMILIES, *edges))
        self.register_buffer("eigen_axes", torch.zeros(MOST_FAMILIES, count, *edges))

    def take_eigenvolumes(self, mean: Tensor, axes: Tensor) -> None:
        """Read codes of posed particles along these too, from here on.

        Parameters
        ----------
        mean : (f, n, n, n)
            Of each family, at the coarse size and inside the soft sphere.
        axes : (f, k, n, n, n)
            A score is ``sum((particle - mean) * axis)``; an axis that is not there is 0.
        """
        self.get_buffer("eigen_mean").copy_(mean)
        self.get_buffer("eigen_axes").copy_(axes)

    def along_eigenvolumes(self, posed: Tensor, families: Tensor) -> Tensor:
        """Return the scores (b, k) of particles in their canonical frame, as `small` leaves them."""
        differences = posed - self.get_buffer("eigen_mean")[families]
        return torch.einsum("bzyx,bkzyx->bk", differences, self.get_buffer("eigen_axes")[families])

    def keep_poses(self) -> None:
        """Take the poses of batches as they are from here on; nothing for a model without poses."""


def draw(mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
    """Return a sample of N(mean, exp logvar)."""
    noise = torch.randn(mean.shape, generator=generator).to(mean)
    return mean + noise * (0.5 * logvar).exp()
