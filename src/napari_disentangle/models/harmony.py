"""Harmony: explicit pose and a content code, kept honest by a transformed copy of each particle.

Uddin, Howe, Zeng and Xu, "Harmony: a generic unsupervised approach for disentangling semantic content from
parameterized transformations", CVPR 2022; written from its equations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.models.base import Batch, Encoding, Losses
from napari_disentangle.models.losses import apply_wedge, kl_between, sampled_region, squared_distance
from napari_disentangle.models.module import DisentanglingModel, draw
from napari_disentangle.models.nets import ConvEncoder, Decoder, resample
from napari_disentangle.models.transformations import Moves, RigidTransformation, transformation_of

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Spec

WIDTH = 256
"""Features of the encoder."""
MOST_KINDS = 3
"""Differences between molecules of one canonical frame that the content has room for."""


class Harmony(DisentanglingModel):
    """Harmony of volumes and images.

    With the particle x, its transformation k and content psi = N(mu, exp logvar) from the encoder, x_k = T(x, k) the
    particle in its canonical pose, x_z = g(z), z ~ psi, the decoded one, and primes for a randomly moved copy of x:

        loss = gamma [ D(x_z, x_k) + D(x_k, x'_k') + D(x'_k', x'_z') ] + KL(psi || psi')

    D is the squared error inside a soft sphere, mean over the batch. T turns and shifts volumes; turns, shifts and
    scales images; changes the contrast of coloured ones (`Spec.moves`). Beyond the paper: rotations are 6D, random
    rotations cover SO(3), volumes with a missing wedge are compared only where both have data, and mu is a linear map
    of the particle's invariants (set by `anchor_content`) plus a learned, bounded correction, and, of posed volumes,
    what they differ by from others of their canonical frame (set by `take_eigenvolumes`).

    Parameters
    ----------
    spec : Spec
        Of particular meaning here: `weight` is gamma, `cross_contrast` the second distance, `kl` the weight of the KL;
        `features` is 0 for the paper's encoder, which sees voxels only.
    """

    explicit = True

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = ConvEncoder(spec, WIDTH)
        self.pose = transformation_of(spec, WIDTH)
        self.content = nn.Sequential(
            nn.Linear(WIDTH + spec.features, 128), nn.LeakyReLU(0.1), nn.Linear(128, 2 * spec.content)
        )
        self.decoder = Decoder(spec.content, spec)
        if spec.dims == 3 and spec.features and spec.content > 1:
            self.make_room("kinds", min(MOST_KINDS, spec.content - 1))

    def anchor_content(self, mean: Tensor, scale: Tensor, anchor: Tensor) -> None:
        """As `DisentanglingModel.anchor_content`; the learned correction starts small beside the map."""
        super().anchor_content(mean, scale, anchor)
        with torch.no_grad():
            self.content[-1].weight.mul_(0.1)  # pyright: ignore[reportOperatorIssue, reportCallIssue]

    def take_eigenvolumes(self, mean: Tensor, axes: Tensor) -> None:
        """As `DisentanglingModel.take_eigenvolumes`; in the places of the least of the invariants' factors."""
        super().take_eigenvolumes(mean, axes)
        found = int((axes.abs().amax((2, 3, 4)) > 0).sum(1).max())
        self.get_buffer("anchor")[:, self.spec.content - found :] = 0

    def _kind(self, volumes: Tensor, families: Tensor, moves: Moves) -> Tensor:
        """Return (b, c): scores along the eigenvolumes of each particle's family, from the last dimension backwards."""
        coarse = self.spec.coarse
        scores = self.along_eigenvolumes(self.small(self.pose.align(resample(volumes, coarse), moves)), families)
        return nn.functional.pad(scores.flip(1), (self.spec.content - scores.shape[1], 0))

    def _encode(self, volumes: Tensor, batch: Batch, rotations: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor, Moves]:
        """Return mu and logvar of the content, and the moves."""
        features = self.encoder(self.small(volumes))
        moves = self.pose(features, rotations, shifts)
        scaled = self.features_of(batch)
        mean, logvar = self.content(torch.cat([features, scaled], 1)).chunk(2, 1)
        if self.spec.features:
            mean = scaled @ self.get_buffer("anchor") + 0.5 * torch.tanh(mean)
            if self.takes_eigenvolumes and batch.families is not None:
                mean = mean + self._kind(volumes, batch.families, moves)
        return mean, logvar.clamp(-8, 4), moves

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return mu and the transformation of a batch."""
        mean, _, moves = self._encode(batch.volumes, batch, batch.rotations, batch.shifts)
        code = self.pose.code(moves)
        if self.spec.dims == 2:
            return Encoding(mean, code)
        return Encoding(mean, code, moves.rotations, moves.shifts)

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return canonical particles of content codes (b, c); the transformation has no say in them."""
        del transform
        return self.decoder(content, size)

    def reconstruct(self, batch: Batch, code: Encoding) -> Tensor:
        """Return the decoded particles as they lie in their boxes."""
        if self.spec.dims == 3:
            return super().reconstruct(batch, code)
        decoded = self.decode(code.content, code.transform, batch.volumes.shape[-1])
        return self.pose.place(decoded, self.pose.from_code(code.transform))

    def keep_poses(self) -> None:
        """Take the poses of batches as they are from here on."""
        if isinstance(self.pose, RigidTransformation):
            self.pose.mode = "fixed"

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        x, spec = batch.volumes, self.spec
        n = x.shape[-1]
        sphere = self.sphere(n)
        mean, logvar, moves = self._encode(x, batch, batch.rotations, batch.shifts)
        x_k = self.pose.align(x, moves)
        x_z = self.decoder(draw(mean, logvar, generator), n)

        moved = self.pose.random(x, generator)
        copy = self.pose.place(x, moved)
        known = batch.rotations, batch.shifts
        whole = seen = seen_by_both = None
        frame = batch.frames
        if batch.tilts is not None:
            copy = apply_wedge(copy, sampled_region(n, batch.tilts, frame))
        if spec.dims == 3:
            turn = moved.rotations
            known = turn @ batch.rotations, (turn @ batch.shifts[..., None])[..., 0] + moved.shifts
        copy_mean, copy_logvar, copy_moves = self._encode(copy, batch, *known)
        copy_k = self.pose.align(copy, copy_moves)
        copy_z = self.decoder(draw(copy_mean, copy_logvar, generator), n)
        if batch.tilts is not None:
            turn = moved.rotations
            whole = sampled_region(n, batch.tilts, _into(frame, moves.rotations))
            through_copy = sampled_region(n, batch.tilts, _into(frame, copy_moves.rotations))
            through_turn = sampled_region(n, batch.tilts, _into(frame, turn.transpose(1, 2) @ copy_moves.rotations))
            seen = through_copy * through_turn
            seen_by_both = whole * seen

        reconstruction = squared_distance(x_z, x_k, sphere, whole)
        consistency = squared_distance(x_k, copy_k, sphere, seen_by_both)
        copy_reconstruction = squared_distance(copy_k, copy_z, sphere, seen)
        kl = kl_between(mean, logvar, copy_mean, copy_logvar)
        weight = spec.weight * (x[0].numel() if spec.summed else 1)
        if spec.dims == 2:  # else a scale or a contrast that leaves less of every image would make all distances small
            weight = weight * (x * sphere).square().mean() / (x_k * sphere).square().mean()
        distances = reconstruction + copy_reconstruction + (consistency if spec.cross_contrast else 0)
        total = weight * distances + (1.0 if spec.kl is None else spec.kl) * kl
        terms = {
            "reconstruction": reconstruction.detach(),
            "consistency": consistency.detach(),
            "copy_reconstruction": copy_reconstruction.detach(),
            "kl": kl.detach(),
        }
        kept = self.pose.align(x, replace(moves, scales=None, gains=None)) if spec.dims == 2 else x_k
        energy = (kept.detach() * sphere).square().mean() / (copy * sphere).square().mean()
        return Losses(total, terms, float(energy))


def _into(frame: Tensor | None, rotations: Tensor) -> Tensor:
    return rotations if frame is None else frame @ rotations
