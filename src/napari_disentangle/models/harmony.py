"""Harmony: explicit pose and a content code, kept honest by a transformed copy of each particle.

Uddin, Howe, Zeng and Xu, "Harmony: a generic unsupervised approach for disentangling semantic content from
parameterized transformations", CVPR 2022; written from its equations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.geometry import align_volumes, place_volumes, random_rotations_like
from napari_disentangle.models.base import Batch, Encoding, Losses
from napari_disentangle.models.losses import apply_wedge, kl_between, sampled_region, squared_distance
from napari_disentangle.models.nets import ConvEncoder, VolumeDecoder, resample, soft_sphere
from napari_disentangle.models.transformations import PoseMode, RigidTransformation

if TYPE_CHECKING:
    from torch import Tensor


class Harmony(nn.Module):
    """Harmony in 3D.

    With the particle x, its pose k and content psi = N(mu, exp logvar) from the encoder, x_k = T(x, k) the particle in
    its canonical pose, x_z = g(z), z ~ psi, the decoded volume, and primes for a randomly moved copy of x:

        loss = gamma [ D(x_z, x_k) + D(x_k, x'_k') + D(x'_k', x'_z') ] + KL(psi || psi')

    D is the squared error inside a soft sphere, mean over the batch. Beyond the paper:
    rotations are 6D, random rotations cover SO(3), volumes with a missing wedge are compared only where both have data,
    and mu is a linear map of the particle's invariants (set by `anchor_content`) plus a learned, bounded correction.

    Parameters
    ----------
    dims : int
        Content dimensions.
    coarse, fine : int
        Voxels per edge of the two stages, multiples of 8.
    sphere : float
        Radius of the soft sphere as a fraction of the box's edge; 0 for none.
    features : int
        Invariants per particle; 0 for the paper's encoder, which sees the volume only.
    gamma : float
        Weight of the distances against the KL.
    summed : bool
        Distances sum over voxels, as in the paper; otherwise they are means over voxels.
    mode, max_shift, cone
        See `RigidTransformation`.
    """

    def __init__(
        self, *, dims: int, coarse: int, fine: int, sphere: float, features: int, gamma: float, summed: bool,
        mode: PoseMode, max_shift: float, cone: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.coarse, self.gamma, self.summed, self.max_shift = coarse, gamma, summed, max_shift
        self.uses_invariants = features > 0
        width = 256
        self.encoder = ConvEncoder(coarse, width)
        self.pose = RigidTransformation(width, mode, max_shift, cone)
        self.content = nn.Sequential(nn.Linear(width + features, 128), nn.LeakyReLU(0.1), nn.Linear(128, 2 * dims))
        self.decoder = VolumeDecoder(dims, coarse, fine)
        for n in {coarse, fine}:
            mask = soft_sphere(n, sphere * n) if sphere else torch.ones(n, n, n)
            self.register_buffer(f"sphere_{n}", mask, persistent=False)
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_scale", torch.ones(features))
        self.register_buffer("anchor", torch.zeros(features, dims))

    def anchor_content(self, mean: Tensor, scale: Tensor, anchor: Tensor) -> None:
        """Set the linear map from invariants to content: ``((invariants - mean) / scale) @ anchor``.

        Parameters
        ----------
        mean, scale : (m,)
        anchor : (m, dims)
        """
        last = self.content[-1]
        with torch.no_grad():
            self.get_buffer("feature_mean").copy_(mean)
            self.get_buffer("feature_scale").copy_(scale)
            self.get_buffer("anchor").copy_(anchor)
            last.weight.mul_(0.1)  # pyright: ignore[reportOperatorIssue, reportCallIssue]

    def _encode(self, volumes: Tensor, batch: Batch, rotations: Tensor, shifts: Tensor) -> Encoding:
        small = resample(volumes, self.coarse) * self.get_buffer(f"sphere_{self.coarse}")
        features = self.encoder(small)
        rotation, shift = self.pose(features, rotations, shifts)
        if self.uses_invariants:
            scaled = (batch.invariants - self.get_buffer("feature_mean")) / self.get_buffer("feature_scale")
            scaled = scaled.clamp(-6, 6)
            correction, logvar = self.content(torch.cat([features, scaled], 1)).chunk(2, 1)
            mean = scaled @ self.get_buffer("anchor") + 0.5 * torch.tanh(correction)
        else:
            mean, logvar = self.content(features).chunk(2, 1)
        return Encoding(mean, logvar.clamp(-8, 4), rotation, shift)

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return codes of a batch: mu, logvar and the pose."""
        return self._encode(batch.volumes, batch, batch.rotations, batch.shifts)

    def decode(self, content: Tensor, size: int) -> Tensor:
        """Return (b, size, size, size) canonical volumes of content codes (b, dims), in standardised units."""
        return self.decoder(content, size)

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        x = batch.volumes
        b, n = x.shape[:2]
        sphere = self.get_buffer(f"sphere_{n}")
        code = self._encode(x, batch, batch.rotations, batch.shifts)
        x_k = align_volumes(x, code.rotations, code.shifts * n)
        x_z = self.decoder(_draw(code, generator), n)

        turn = random_rotations_like(b, x, generator)
        move = ((torch.rand(b, 3, generator=generator) * 2 - 1) * self.max_shift / 2).to(x)
        copy = place_volumes(x, turn, move * n)
        whole = seen = seen_by_both = None
        frame = batch.frames
        if batch.tilts is not None:
            copy = apply_wedge(copy, sampled_region(n, batch.tilts, frame))
        known = turn @ batch.rotations, (turn @ batch.shifts[..., None])[..., 0] + move
        other = self._encode(copy, batch, *known)
        copy_k = align_volumes(copy, other.rotations, other.shifts * n)
        copy_z = self.decoder(_draw(other, generator), n)
        if batch.tilts is not None:
            whole = sampled_region(n, batch.tilts, _into(frame, code.rotations))
            through_copy = sampled_region(n, batch.tilts, _into(frame, other.rotations))
            through_turn = sampled_region(n, batch.tilts, _into(frame, turn.transpose(1, 2) @ other.rotations))
            seen = through_copy * through_turn
            seen_by_both = whole * seen

        reconstruction = squared_distance(x_z, x_k, sphere, whole)
        consistency = squared_distance(x_k, copy_k, sphere, seen_by_both)
        copy_reconstruction = squared_distance(copy_k, copy_z, sphere, seen)
        kl = kl_between(code.content, code.content_logvar, other.content, other.content_logvar)
        weight = self.gamma * (n**3 if self.summed else 1)
        total = weight * (reconstruction + consistency + copy_reconstruction) + kl
        terms = {
            "reconstruction": reconstruction.detach(),
            "consistency": consistency.detach(),
            "copy_reconstruction": copy_reconstruction.detach(),
            "kl": kl.detach(),
        }
        energy = (x_k.detach() * sphere).square().mean() / (copy * sphere).square().mean()
        return Losses(total, terms, float(energy))


def _draw(code: Encoding, generator: torch.Generator) -> Tensor:
    noise = torch.randn(code.content.shape, generator=generator).to(code.content)
    return code.content + noise * (0.5 * code.content_logvar).exp()


def _into(frame: Tensor | None, rotations: Tensor) -> Tensor:
    return rotations if frame is None else frame @ rotations
