"""Selection: a named set of particle ids, its algebra, and the polygon that drew it. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Selection:
    """Particles that belong to the user: ids survive retraining, re-embedding and re-clustering."""

    name: str
    """As on disk: ``A/0`` is the first cluster of the clustering named A."""
    ids: NDArray[np.int64]
    """(n,) rows of the original list, ascending and unique."""
    how: dict[str, Any] = field(default_factory=lambda: {})
    """How it was drawn: method and settings, or the polygon."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.unique(np.asarray(self.ids, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.ids)

    def __or__(self, other: Selection) -> Selection:
        return self._combine(other, "|", np.union1d(self.ids, other.ids))

    def __and__(self, other: Selection) -> Selection:
        return self._combine(other, "&", np.intersect1d(self.ids, other.ids, assume_unique=True))

    def __sub__(self, other: Selection) -> Selection:
        return self._combine(other, "-", np.setdiff1d(self.ids, other.ids, assume_unique=True))

    def _combine(self, other: Selection, sign: str, ids: NDArray[np.int64]) -> Selection:
        return Selection(f"{self.name} {sign} {other.name}", ids, {"operation": sign, "of": [self.name, other.name]})

    def complement(self, ids: ArrayLike) -> Selection:
        """Return the particles of `ids` that are not in this selection."""
        rest = np.setdiff1d(np.asarray(ids, dtype=np.int64), self.ids)
        return Selection(f"not {self.name}", rest, {"operation": "complement", "of": [self.name]})


def inside_polygon(points: ArrayLike, polygon: ArrayLike) -> NDArray[np.bool_]:
    """Return which points lie inside a closed polygon (even-odd rule).

    Parameters
    ----------
    points : (n, 2)
    polygon : (k, 2)
        Corners in order, in the units of `points`; the last is joined to the first.

    Returns
    -------
    (n,), bool
    """
    p = np.asarray(points, dtype=np.float64)
    corners = np.asarray(polygon, dtype=np.float64)
    inside = np.zeros(len(p), dtype=np.bool_)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > p[:, 1]) != (y1 > p[:, 1])
        inside ^= crosses & (p[:, 0] < x0 + (p[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    return inside
