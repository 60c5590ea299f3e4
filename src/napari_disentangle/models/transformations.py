"""Explicit transformations of a particle: how a head's numbers become bounded rotations, shifts, scales and gains."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_disentangle.geometry import (
    align_volumes,
    place_volumes,
    random_rotations_like,
    rotation_from_6d,
    rotation_from_vector,
    sample_images,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Move, Spec
    from napari_disentangle.particles import PoseMode

LOG_SCALE = math.log(1.6)
"""Largest logarithm of a scale that images are brought back from."""
LOG_GAIN = math.log(3.0)
"""The same of a contrast."""


@dataclass(frozen=True)
class Moves:
    """How particles lie: reference -> particle."""

    rotations: Tensor
    """(b, 3, 3), or (b, 2, 2) of images."""
    shifts: Tensor
    """(b, 3) as a fraction of the box's edge, xyz; (b, 2) of images, xy."""
    scales: Tensor | None = None
    """(b,) how much larger than its reference an image is."""
    gains: Tensor | None = None
    """(b,) contrast of an image over that of its reference."""


def transformation_of(spec: Spec, features: int) -> RigidTransformation | PlanarTransformation:
    """Return the explicit transformation that particles of a spec have, driven by so many features."""
    if spec.dims == 3:
        return RigidTransformation(features, spec.pose_mode, spec.max_shift, spec.cone)
    moves: tuple[Move, ...] = spec.moves or (
        ("rotation", "translation", "scale") if spec.channels == 1 else ("contrast",)
    )
    return PlanarTransformation(features, moves, spec.max_shift)


class RigidTransformation(nn.Module):
    """Rotation and translation, bounded by activations (Harmony, section 3.6).

    Parameters
    ----------
    features : int
        Width of the encoder's features.
    mode : "free", "local", "fixed" or "prior"
        Anything; a cone about the imported pose; the imported pose; the imported tilt and psi with any rot.
    max_shift : float
        Largest shift along each axis, as a fraction of the box's edge.
    cone : float
        Largest angle from the imported rotation, in degrees, for "local".
    """

    def __init__(self, features: int, mode: PoseMode, max_shift: float, cone: float) -> None:
        super().__init__()
        self.mode, self.max_shift, self.cone = mode, max_shift, math.radians(cone)
        self.head = nn.Linear(features, 9)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, rotations: Tensor, shifts: Tensor) -> Moves:
        """Return the moves of particles with features (b, f), given imported rotations (b, 3, 3) and shifts (b, 3)."""
        if self.mode == "fixed":
            return Moves(rotations, shifts)
        numbers = self.head(features)
        moved = torch.tanh(numbers[:, 6:]) * self.max_shift
        if self.mode == "free":
            return Moves(rotation_from_6d(numbers[:, :6]), moved)
        if self.mode == "local":
            return Moves(rotations @ bounded_rotation(numbers[:, :3], self.cone), shifts + moved)
        return Moves(rotations @ turn_about_z(numbers[:, :2]), shifts + moved)

    def random(self, like: Tensor, generator: torch.Generator) -> Moves:
        """Return a random move for each particle of `like` (b, n, n, n): any rotation, up to half the largest shift."""
        turns = random_rotations_like(len(like), like, generator)
        shifts = (torch.rand(len(like), 3, generator=generator) * 2 - 1) * self.max_shift / 2
        return Moves(turns, shifts.to(like))

    def align(self, volumes: Tensor, moves: Moves) -> Tensor:
        """Return particles (b, n, n, n) as their reference lies."""
        return align_volumes(volumes, moves.rotations, moves.shifts * volumes.shape[-1])

    def place(self, volumes: Tensor, moves: Moves) -> Tensor:
        """Return references (b, n, n, n) as their particle lies."""
        return place_volumes(volumes, moves.rotations, moves.shifts * volumes.shape[-1])

    def code(self, moves: Moves) -> Tensor:
        """Return (b, 12): rotation matrices row by row, and shifts as fractions of the edge."""
        return torch.cat([moves.rotations.flatten(1), moves.shifts], 1)

    def from_code(self, code: Tensor) -> Moves:
        """Return the moves of what `code` returned."""
        return Moves(code[:, :9].reshape(-1, 3, 3), code[:, 9:])


class PlanarTransformation(nn.Module):
    """Rotation, translation and scale of images, and their contrast, each bounded or periodic (Harmony, section 3.6).

    Parameters
    ----------
    features : int
        Width of the encoder's features.
    moves : "rotation", "translation", "scale", "contrast"
        What there is; the others stay as they are.
    max_shift : float
        Largest shift along each axis, as a fraction of the image's edge.
    """

    def __init__(self, features: int, moves: tuple[Move, ...], max_shift: float) -> None:
        super().__init__()
        self.moves, self.max_shift = moves, max_shift
        self.head = nn.Linear(features, 6)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, _rotations: Tensor, _shifts: Tensor) -> Moves:
        """Return the moves of images with features (b, f); images have no imported pose."""
        return self._moves(self.head(features))

    def _moves(self, numbers: Tensor) -> Moves:
        identity = torch.tensor([1.0, 0.0], device=numbers.device)
        direction = numbers[:, :2] + 1e-6 * identity if "rotation" in self.moves else identity.expand(len(numbers), 2)
        c, s = torch.nn.functional.normalize(direction, dim=-1).unbind(-1)
        limit = self.max_shift if "translation" in self.moves else 0.0
        return Moves(
            torch.stack([c, -s, s, c], -1).reshape(-1, 2, 2),
            torch.tanh(numbers[:, 2:4]) * limit,
            torch.exp(torch.tanh(numbers[:, 4]) * LOG_SCALE) if "scale" in self.moves else None,
            torch.exp(torch.tanh(numbers[:, 5]) * LOG_GAIN) if "contrast" in self.moves else None,
        )

    def random(self, like: Tensor, generator: torch.Generator) -> Moves:
        """Return a random move for each image of `like`: any turn, the rest up to half of the largest."""
        numbers = torch.randn(len(like), 6, generator=generator)
        numbers[:, 2:] = torch.atanh(torch.rand(len(like), 4, generator=generator) - 0.5)
        return self._moves(numbers.to(like))

    def align(self, images: Tensor, moves: Moves) -> Tensor:
        """Return images (b, n, n) or (b, 3, n, n) as their reference lies."""
        scale = torch.ones_like(moves.shifts[:, 0]) if moves.scales is None else moves.scales
        evened = images if moves.gains is None else with_contrast(images, 1 / moves.gains)
        return sample_images(evened, moves.rotations * scale[:, None, None], moves.shifts * images.shape[-1])

    def place(self, images: Tensor, moves: Moves) -> Tensor:
        """Return references as their image lies."""
        scale = torch.ones_like(moves.shifts[:, 0]) if moves.scales is None else moves.scales
        inverse = moves.rotations.transpose(1, 2) / scale[:, None, None]
        shifts = -(inverse @ moves.shifts[..., None])[..., 0]
        placed = sample_images(images, inverse, shifts * images.shape[-1])
        return placed if moves.gains is None else with_contrast(placed, moves.gains)

    def code(self, moves: Moves) -> Tensor:
        """Return (b, t): of those there are, cosine and sine, shift, logarithm of the scale and of the contrast."""
        parts: list[Tensor] = []
        if "rotation" in self.moves:
            parts.append(moves.rotations[:, :, 0])
        if "translation" in self.moves:
            parts.append(moves.shifts)
        parts += [values.log()[:, None] for values in (moves.scales, moves.gains) if values is not None]
        return torch.cat(parts, 1)

    def from_code(self, code: Tensor) -> Moves:
        """Return the moves of what `code` returned."""
        rest = code
        moves = self._moves(torch.zeros(len(code), 6, device=code.device, dtype=code.dtype))
        if "rotation" in self.moves:
            c, s = rest[:, 0], rest[:, 1]
            moves, rest = replace(moves, rotations=torch.stack([c, -s, s, c], -1).reshape(-1, 2, 2)), rest[:, 2:]
        if "translation" in self.moves:
            moves, rest = replace(moves, shifts=rest[:, :2]), rest[:, 2:]
        if "scale" in self.moves:
            moves, rest = replace(moves, scales=rest[:, 0].exp()), rest[:, 1:]
        if "contrast" in self.moves:
            moves = replace(moves, gains=rest[:, 0].exp())
        return moves


def with_contrast(images: Tensor, gains: Tensor) -> Tensor:
    """Return images (b, ...) whose differences from their own mean are so many times as large."""
    mean = images.flatten(1).mean(1).reshape(-1, *(1,) * (images.ndim - 1))
    return mean + (images - mean) * gains.reshape(mean.shape)


def bounded_rotation(vectors: Tensor, limit: float) -> Tensor:
    """Return rotations (b, 3, 3) by less than `limit` radians: rotation vectors (b, 3) squashed to that length."""
    length = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return rotation_from_vector(vectors / length * (torch.tanh(length) * limit))


def turn_about_z(numbers: Tensor) -> Tensor:
    """Return rotations (b, 3, 3) about z whose cosine and sine are the direction of `numbers` (b, 2)."""
    c, s = torch.nn.functional.normalize(numbers + torch.tensor([1e-6, 0.0], device=numbers.device), dim=-1).unbind(-1)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).reshape(-1, 3, 3)
