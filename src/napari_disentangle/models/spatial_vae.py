"""SpatialVAE: a variational autoencoder whose decoder is a function of turned and shifted coordinates.

Bepler, Zhong, Kelley, Brignole and Berger, "Explicitly disentangling image content from translation and rotation with
spatial-VAE", NeurIPS 2019; written from its equations.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from napari_disentangle.models.base import Batch, Encoding, Losses
from napari_disentangle.models.losses import apply_wedge, kl_to_prior, sampled_region, squared_distance
from napari_disentangle.models.module import DisentanglingModel, draw
from napari_disentangle.models.nets import ConvEncoder
from napari_disentangle.models.transformations import RigidTransformation
from napari_disentangle.models.warps import turns

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Spec

WIDTH = 256
"""Features of the encoder."""
HIDDEN = 128
"""Units in each of the decoder's hidden layers; the paper has 500."""
WAVES, FREQUENCY = 32, 5.0
"""Plane waves that the decoder is shown beside a place, and the spread of their frequencies along each axis, in radians
per half an edge."""
ANGLE_PRIOR = math.pi
"""Standard deviation of the prior of an image's angle, in radians."""
_POINTS_AT_ONCE = 2**19


class SpatialVAE(DisentanglingModel):
    """SpatialVAE of images, and of volumes as the table of Harmony (Uddin et al. 2022) has it.

    An encoder gives a Gaussian content code z and a pose; the decoder is a function f of a place and of z. With the
    pose x = R x_ref + t, the particle is f(R^-1 (x - t), z) at each voxel's place x, and

        1/2 sum over voxels of (x - f)^2 + beta [ KL(q(z) || N(0, I)) + KL(q(pose) || prior) ]

    As in `vae.VAE`, the loss is this bound of unit variance times 2 / V, unless distances are summed over the V voxels.
    Of images, angle and shift are Gaussian too. The angle's prior N(m, pi^2) has the posterior's own mean m, so that no
    angle is preferred; the shift is s tanh(u), u with prior N(0, I) and s the largest. Of volumes, the pose is a point:
    a 6D rotation and a shift, without a prior. Volumes with a missing wedge are compared where there are data.

    Parameters
    ----------
    spec : Spec
        Of particular meaning here: `kl` is beta, 1 unless given; of `moves`, an image may have the rotation and the
        translation.
    """

    explicit = True

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.encoder = ConvEncoder(spec, WIDTH)
        self.content = nn.Linear(WIDTH, 2 * spec.content)
        self.pose = (
            RigidTransformation(WIDTH, "free", spec.max_shift, spec.cone) if spec.dims == 3 else UncertainPose(spec)
        )
        self.decoder = CoordinateDecoder(spec)

    def _encode(self, volumes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and logvar of the content, and the features."""
        features = self.encoder(self.small(volumes))
        mean, logvar = self.content(features).chunk(2, 1)
        return mean, logvar.clamp(-8, 4), features

    @torch.no_grad()
    def encode(self, batch: Batch) -> Encoding:
        """Return the mean content and the pose of a batch: of images cosine, sine and shift, as there are."""
        mean, _, features = self._encode(batch.volumes)
        if isinstance(self.pose, UncertainPose):
            angle, shift, _ = self.pose(features)
            return Encoding(mean, self.pose.code(angle, shift))
        moves = self.pose(features, batch.rotations, batch.shifts)
        return Encoding(mean, self.pose.code(moves), moves.rotations, moves.shifts)

    def decode(self, content: Tensor, transform: Tensor, size: int) -> Tensor:
        """Return canonical particles of content codes (b, c) at any size; the pose has no say in them."""
        del transform
        return self._as_particles(self.decoder(content, places(size, self.spec.dims, content)[None]), size)

    def reconstruct(self, batch: Batch, code: Encoding) -> Tensor:
        """Return the particles as they lie in their boxes: the decoder at moved places, nothing interpolated."""
        size = batch.volumes.shape[-1]
        rotations, shifts = code.rotations, code.shifts
        if isinstance(self.pose, UncertainPose):
            rotations, shifts = self.pose.from_code(code.transform)
        assert rotations is not None
        assert shifts is not None
        where = to_reference(places(size, self.spec.dims, shifts), rotations, shifts)
        placed = self._as_particles(self.decoder(code.content, where), size)
        return placed if batch.tilts is None else apply_wedge(placed, sampled_region(size, batch.tilts, batch.frames))

    def keep_poses(self) -> None:
        """Take the poses of batches as they are from here on."""
        if isinstance(self.pose, RigidTransformation):
            self.pose.mode = "fixed"

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a batch; `generator` (on the CPU) makes every random number."""
        x, spec = batch.volumes, self.spec
        n = x.shape[-1]
        sphere = self.sphere(n)
        mean, logvar, features = self._encode(x)
        kl = kl_to_prior(mean, logvar)
        nats, terms = spec.content * kl, {"kl_content": kl.detach()}
        if isinstance(self.pose, UncertainPose):
            angle, shift, kl = self.pose(features, generator)
            rotations = turns(angle)
            nats, terms["kl_pose"] = nats + kl, kl.detach()
        else:
            moves = self.pose(features, batch.rotations, batch.shifts)
            rotations, shift = moves.rotations, moves.shifts

        # outside the mask nothing is compared, so nothing is decoded
        inside = sphere.flatten().nonzero()[:, 0]
        where = to_reference(places(n, spec.dims, x)[inside], rotations, shift)
        values = self.decoder(draw(mean, logvar, generator), where)
        decoded = self._as_particles(
            values.new_zeros(len(x), n**spec.dims, spec.channels).index_copy(1, inside, values), n
        )
        sampled = None if batch.tilts is None else sampled_region(n, batch.tilts, batch.frames)
        reconstruction = squared_distance(decoded, x, sphere, sampled)

        total = self.bound(reconstruction, (1.0 if spec.kl is None else spec.kl) * nats)
        return Losses(total, {"reconstruction": reconstruction.detach()} | terms)

    def _as_particles(self, values: Tensor, size: int) -> Tensor:
        """Return values (b, n^d, channels) as particles."""
        return values.movedim(-1, 1).reshape(-1, *self.spec.shape(size))


class CoordinateDecoder(nn.Module):
    """A function of a place and a code: a layer of each, summed, then hidden layers.

    The place comes with cosines and sines of random plane waves (Tancik et al. 2020), without which such a network is
    slow to learn what is finer than the whole particle.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.register_buffer("waves", torch.randn(spec.dims, WAVES) * FREQUENCY)
        self.place = nn.Linear(spec.dims + 2 * WAVES, HIDDEN)
        self.code = nn.Linear(spec.content, HIDDEN, bias=False)
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.1, inplace=True), nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(0.1, inplace=True), nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(0.1, inplace=True), nn.Linear(HIDDEN, spec.channels),
        )  # fmt: skip

    def forward(self, codes: Tensor, where: Tensor) -> Tensor:
        """Return (b, p, channels) at places (b, p, d), or (1, p, d) for the same places of all codes (b, c)."""
        where = where.expand(len(codes), -1, -1)
        step = max(1, _POINTS_AT_ONCE // where.shape[1])
        pieces = list(zip(codes.split(step), where.split(step), strict=True))
        if len(pieces) == 1:
            return self._values(codes, where)
        if not torch.is_grad_enabled():
            return torch.cat([self._values(*piece) for piece in pieces])
        # of many points, what the gradient needs is computed again rather than kept
        kept = [checkpoint(self._values, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
        return torch.cat(kept)

    def _values(self, codes: Tensor, where: Tensor) -> Tensor:
        phases = where @ self.get_buffer("waves")
        place = self.place(torch.cat([where, phases.cos(), phases.sin()], -1))
        return self.layers(place + self.code(codes)[:, None])


class UncertainPose(nn.Module):
    """Angle and shift of images as Gaussian codes, those of the two that there are.

    The angle's mean is the direction of two numbers, which has no seam at pi.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.turns, self.shifts = (spec.moves is None or move in spec.moves for move in ("rotation", "translation"))
        self.max_shift = spec.max_shift if self.shifts else 0.0
        self.head = nn.Linear(WIDTH, 7)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return angles (b,) in radians, shifts (b, 2) as fractions of the edge, xy, and the nats of their KL.

        Samples where there is a `generator`, else means.
        """
        numbers = self.head(features)
        angle = torch.atan2(numbers[:, 1], numbers[:, 0] + 1e-6)[:, None]
        shift, logvar = numbers[:, 2:4], (numbers[:, 4:] - 2).clamp(-8, 4)
        spread = logvar[:, :1] - 2 * math.log(ANGLE_PRIOR)
        kl = self.turns * kl_to_prior(torch.zeros_like(angle), spread)
        kl = kl + self.shifts * 2 * kl_to_prior(shift, logvar[:, 1:])
        if generator is not None:
            angle, shift = draw(torch.cat([angle, shift], 1), logvar, generator).split((1, 2), 1)
        return angle[:, 0] * self.turns, torch.tanh(shift) * self.max_shift, kl

    def code(self, angle: Tensor, shift: Tensor) -> Tensor:
        """Return (b, t): cosine and sine, and shift, those that there are."""
        parts = [torch.cos(angle)[:, None], torch.sin(angle)[:, None]] * self.turns + [shift] * self.shifts
        return torch.cat([*parts, angle[:, None][:, :0]], 1)

    def from_code(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotations (b, 2, 2) and shifts (b, 2) of what `code` returned."""
        angle = torch.atan2(code[:, 1], code[:, 0]) if self.turns else code.new_zeros(len(code))
        return turns(angle), code[:, -2:] if self.shifts else code.new_zeros(len(code), 2)


def places(n: int, dims: int, like: Tensor) -> Tensor:
    """Return where voxels lie, (n^d, d): xyz or xy about voxel n // 2, in units in which the edge is 2 long."""
    axis = (torch.arange(n, device=like.device, dtype=like.dtype) - n // 2) * (2 / n)
    return torch.stack(torch.meshgrid(*[axis] * dims, indexing="ij")[::-1], -1).reshape(-1, dims)


def to_reference(where: Tensor, rotations: Tensor, shifts: Tensor) -> Tensor:
    """Return ``A^T (x - p)`` of places (p, d) for poses (b, d, d) and (b, d), shifts as fractions of the edge."""
    return (where - 2 * shifts[:, None]) @ rotations
