"""What every model is: what it is built from, the batch it takes, the losses and codes it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_disentangle.particles import CONE, PoseMode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.particles import Pose

Pairs = Literal["both", "positive", "negative", "none"]
Move = Literal["rotation", "translation", "scale", "contrast"]
Augmentation = Literal["rotation", "translation", "scale", "contrast", "saturation", "hue", "blur"]
Differences = Literal["kinds", "conformations"]

MOST_FAMILIES = 16
"""Canonical frames that a search of poses tells apart."""
BY_FAMILY = ("eigen_mean", "eigen_axes", "centres", "settled")
"""Names of the buffers of a model that have a row for each."""


@dataclass(frozen=True)
class Spec:
    """Sizes and settings that any model is built from; each model heeds those that mean something to it."""

    dims: Literal[2, 3]
    """Of the particles: images or volumes."""
    coarse: int
    fine: int
    """Voxels per edge of the two stages; the same for images."""
    channels: int = 1
    """1 for grey, 3 for RGB images."""
    sphere: float = 0.0
    """Radius of the soft sphere as a fraction of the box's edge; 0 for none."""
    features: int = 0
    """Invariants per particle that the model is shown; 0 for a model that sees voxels only."""
    content: int = 4
    transform: int = 4
    """Dimensions of the codes; an explicit transformation has its own number."""
    weight: float = 1.0
    """Of the distances between voxels against all other terms (Harmony's gamma)."""
    summed: bool = False
    """Distances sum over voxels, as in Harmony's paper; otherwise they are means over voxels."""
    pose_mode: PoseMode = "free"
    max_shift: float = 0.1
    """Along each axis, as a fraction of the box's edge."""
    cone: float = CONE
    """Largest angle from the imported rotation, in degrees."""
    moves: tuple[Move, ...] | None = None
    """What an explicit transformation of images may do; None for rotation, translation and scale of grey ones, contrast
    of coloured ones, as far as the model knows them."""
    kl: float | None = None
    """Weight of the Kullback-Leibler terms; None for the model's own."""
    cross_contrast: bool = True
    """Harmony compares a particle with its moved copy."""
    content_pairs: Pairs = "both"
    transform_pairs: Pairs = "both"
    """Which pairs shape the two codes (DualContrast)."""
    augmentation: Augmentation = "rotation"
    """What makes the copy of a particle that shares its content."""
    turn: float = 180.0
    """Largest angle that an image's copy is turned by, in degrees; volumes are turned by any."""
    exchange: bool = True
    """DualContrast redraws a particle from the content of its copy, or of a partner, and never from its own."""
    independence: float = 1.0
    """Weight of what DualContrast's two codes know of each other."""
    warp: Literal["affine", "diffeomorphic"] = "diffeomorphic"
    """What VITAE bends its images by."""
    decoder: Literal["standard", "dense"] = "standard"
    """"dense" for the published DualContrast's, whose last layer has 5000 n^3 weights."""

    def shape(self, size: int) -> tuple[int, ...]:
        """Return the shape of one particle at `size` voxels per edge: (n, n, n), (n, n) or (3, n, n)."""
        grid = (size,) * self.dims
        return grid if self.channels == 1 else (self.channels, *grid)


@dataclass(frozen=True)
class Batch:
    """Particles as a model sees them, on its device."""

    volumes: Tensor
    """(b, n, n, n), standardised, n the size of the present stage; (b, n, n) for images, (b, 3, n, n) in colour."""
    invariants: Tensor
    """(b, m) log shell powers, see `inputs`."""
    rotations: Tensor
    """(b, 3, 3) imported pose, or the identity."""
    shifts: Tensor
    """(b, 3) imported offset, as a fraction of the box's edge, xyz."""
    tilts: Tensor | None = None
    """(b, 2) lowest and highest tilt in degrees; None where no wedge is known."""
    frames: Tensor | None = None
    """(b, 3, 3) rotation from the box to its tomogram; None for the identity."""
    families: Tensor | None = None
    """(b,) number of the canonical frame that a search of poses has put each particle in; None before one."""


@dataclass(frozen=True)
class Losses:
    """The loss to minimise and its named terms, each a scalar."""

    total: Tensor
    terms: dict[str, Tensor]
    """What the user sees: detached values of each term, unweighted."""
    aligned_energy: float = 1.0
    """Energy of the aligned particles over that of randomly turned ones (interpolation costs both the same); near 0
    when alignment pushes particles out of the box."""


@dataclass(frozen=True)
class Encoding:
    """What an encoder says of a batch: means of codes, never samples."""

    content: Tensor
    """(b, c)."""
    transform: Tensor
    """(b, t); t is 0 for a model with one code."""
    rotations: Tensor | None = None
    """(b, 3, 3); None for a model without poses."""
    shifts: Tensor | None = None
    """(b, 3) as a fraction of the box's edge, xyz."""


@dataclass(frozen=True)
class Codes:
    """What a trained model says of every particle. Codes are means, never samples."""

    ids: NDArray[np.int64]
    """(n,) rows of the original particle list."""
    content: NDArray[np.float32]
    """(n, c)."""
    transform: NDArray[np.float32]
    """(n, t); for an explicit pose its rotation matrix, row by row, and its shift in voxels of the input."""
    pose: Pose | None
    epoch: int
    fingerprint: str
    """SHA-256 of the weights that made them."""
