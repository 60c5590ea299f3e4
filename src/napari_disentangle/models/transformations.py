"""Explicit transformations of a particle: how a pose head's numbers become a bounded rotation and shift."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from napari_disentangle.geometry import rotation_from_6d

if TYPE_CHECKING:
    from torch import Tensor

PoseMode = Literal["free", "local", "fixed", "prior"]


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

    def forward(self, features: Tensor, rotations: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotations (b, 3, 3) and shifts (b, 3), fractions of the edge, given the imported ones."""
        if self.mode == "fixed":
            return rotations, shifts
        numbers = self.head(features)
        moved = torch.tanh(numbers[:, 6:]) * self.max_shift
        if self.mode == "free":
            return rotation_from_6d(numbers[:, :6]), moved
        if self.mode == "local":
            return rotations @ bounded_rotation(numbers[:, :3], self.cone), shifts + moved
        return rotations @ turn_about_z(numbers[:, :2]), shifts + moved


def bounded_rotation(vectors: Tensor, limit: float) -> Tensor:
    """Return rotations (b, 3, 3) by less than `limit` radians: rotation vectors (b, 3) squashed to that length."""
    length = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    v = vectors / length * (torch.tanh(length) * limit)
    zero = torch.zeros_like(v[:, 0])
    x, y, z = v.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)


def turn_about_z(numbers: Tensor) -> Tensor:
    """Return rotations (b, 3, 3) about z whose cosine and sine are the direction of `numbers` (b, 2)."""
    c, s = torch.nn.functional.normalize(numbers + torch.tensor([1e-6, 0.0], device=numbers.device), dim=-1).unbind(-1)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).reshape(-1, 3, 3)
