"""What every model is: the batch it takes, the losses and codes it returns, the protocol it obeys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.particles import Pose


@dataclass(frozen=True)
class Batch:
    """Particles as a model sees them, on its device."""

    volumes: Tensor
    """(b, n, n, n), standardised, n the size of the present stage."""
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
    """What an encoder says of a batch."""

    content: Tensor
    """(b, c) means."""
    content_logvar: Tensor
    """(b, c) log-variances."""
    rotations: Tensor
    """(b, 3, 3)."""
    shifts: Tensor
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


class DisentanglingModel(Protocol):
    """A torch module that separates content from transformation.

    ``forward`` returns the losses, so that wrappers which only see ``forward`` work.
    """

    def __call__(self, batch: Batch, generator: object) -> Losses:
        """Return the losses of a batch; `generator` makes every random number."""
        ...

    def encode(self, batch: Batch) -> Encoding:
        """Return codes of a batch; no gradients, no randomness."""
        ...

    def decode(self, content: Tensor, size: int) -> Tensor:
        """Return (b, size, size, size) volumes in the canonical pose, in standardised units."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """Return the weights, as torch's modules do."""
        ...
