"""Poses that a search has to stay near: imported ones, or their tilt and psi."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging.refine import Poses
from napari_disentangle.geometry import euler_to_matrix, geodesic_angle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Anchor(Poses):
    """Poses that others have to stay near."""

    cone: float
    """Degrees that a rotation may turn away."""
    any_rot: bool = False
    """Whether only tilt and psi count, as they are known of a molecule in a membrane: any turn about its own axis z."""

    def beyond(self, rotations: Floats, rows: Ints | slice = slice(None)) -> Floats:
        """Return how far (n, ...), in degrees, rotations (n, ..., 3, 3) have turned away from those of `rows`."""
        own = self.rotations[rows]
        own = own.reshape(len(own), *(1,) * (rotations.ndim - 3), 3, 3)
        if not self.any_rot:
            return geodesic_angle(rotations, own)
        return np.degrees(np.arccos(np.clip((rotations[..., 2] * own[..., 2]).sum(-1), -1, 1)))

    def held(self, poses: Poses, reach: float) -> Poses:
        """Return poses (n,), those outside the cone or further than `reach` brought back to the edge straight."""
        from scipy.spatial.transform import Rotation

        rotations = poses.rotations
        back = np.maximum(np.radians(self.beyond(rotations) - self.cone), 0)[:, None]
        if self.any_rot:
            axes = np.cross(rotations[..., 2], self.rotations[..., 2])
        else:
            axes = Rotation.from_matrix(self.rotations @ rotations.transpose(0, 2, 1)).as_rotvec()
        axes /= np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-12)
        turned = Rotation.from_rotvec(back * axes).as_matrix() @ rotations
        return Poses(turned, self.shifts + shortened(poses.shifts - self.shifts, reach))

    def turned_about_z(self, rows: Ints, rng: np.random.Generator) -> Floats:
        """Return the rotations of `rows`, each with a rot at random."""
        angles = np.zeros((len(rows), 3))
        angles[:, 0] = rng.uniform(-180, 180, len(rows))
        return self.rotations[rows] @ euler_to_matrix(angles)


def shortened(vectors: Floats, longest: float) -> Floats:
    """Return vectors (n, 3), those that are longer cut to that length."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * np.minimum(1.0, longest / np.maximum(length, 1e-12))
