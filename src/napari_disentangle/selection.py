"""Selection: a named set of particle ids, its algebra, its history, and the outlines that draw it. NumPy only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONTROL = "control-"
"""What names of controls begin with."""


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
        object.__setattr__(self, "ids", _ascending(np.array(self.ids, dtype=np.int64).ravel()))

    def __len__(self) -> int:
        return len(self.ids)

    def __or__(self, other: Selection) -> Selection:
        return self._combine(other, "|", np.concatenate([self.ids, other.ids]))

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

    @property
    def digest(self) -> str:
        """Eight letters that stand for the ids."""
        return hashlib.sha256(self.ids.tobytes()).hexdigest()[:8]

    @property
    def control_name(self) -> str:
        """Name of this selection's `control`."""
        return f"{CONTROL}{self.digest}/0"

    def control(self, ids: ArrayLike) -> Selection:
        """Return as many particles of `ids` from outside this selection, at random; all of them where there are fewer.

        What such particles average to, any would. The same selection always has the same control.
        """
        some = np.random.default_rng(0).permutation(self.complement(ids).ids)[: len(self)]
        return Selection(self.control_name, some, {"operation": "control", "of": [self.name], "seed": 0})


def _ascending(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ids sorted and each once; those that are already cost nothing (np.unique takes a second for a million)."""
    if (ids[1:] > ids[:-1]).all():
        return ids
    ids = np.sort(ids, kind="stable")
    return ids[np.concatenate([[True], ids[1:] != ids[:-1]])]


def inside_polygon(points: ArrayLike, polygon: ArrayLike) -> NDArray[np.bool_]:
    """Return which points lie inside a closed polygon (even-odd rule).

    A point is inside when the horizontal ray from it to the right crosses an odd number of edges. Points are sorted
    by y once, so that an edge is only tested against the points at its own height: the cost is that of the crossings,
    not of points times corners.

    Parameters
    ----------
    points : (n, 2)
        Those with a coordinate that is not finite are outside.
    polygon : (k, 2)
        Corners in order, in the units of `points`; the last is joined to the first. Fewer than three enclose nothing.

    Returns
    -------
    (n,), bool

    Raises
    ------
    ValueError
        A corner is not finite.
    """
    corners = _finite(polygon, "corner of the polygon")
    p = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    inside = np.zeros(len(p), dtype=np.bool_)
    if len(corners) < 3:
        return inside
    # Where an edge meets the ray is rounded; the margin in x keeps the box from deciding what the rule should.
    margin = np.array([8 * np.spacing(np.abs(corners[:, 0]).max()), 0.0])
    rows, x, y = _by_height(p, corners.min(axis=0) - margin, corners.max(axis=0) + margin)
    ends = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    # Upwards, so that an edge shared by two polygons, or walked the other way, is rounded the same.
    ends = np.where(ends[:, :1, 1:] > ends[:, 1:, 1:], ends[:, ::-1], ends)
    odd = np.zeros(len(rows), dtype=np.bool_)
    bounds = np.searchsorted(y, ends[:, :, 1])
    for ((x0, y0), (x1, y1)), (first, last) in zip(ends.tolist(), bounds.tolist(), strict=True):
        if first < last:
            odd[first:last] ^= x[first:last] < x0 + (y[first:last] - y0) / (y1 - y0) * (x1 - x0)
    inside[rows] = odd
    return inside


def near_path(points: ArrayLike, path: ArrayLike, radius: float) -> NDArray[np.bool_]:
    """Return which points lie within a distance of a polyline, as under the stroke of a round brush.

    Parameters
    ----------
    points : (n, 2)
        Those with a coordinate that is not finite are not near.
    path : (k, 2)
        In the units of `points`; one alone is a dab, none is near nothing.
    radius : float
        In the units of `points`; at this distance is near.

    Returns
    -------
    (n,), bool

    Raises
    ------
    ValueError
        The radius is negative, or it or a point of the path is not finite.
    """
    corners = _finite(path, "point of the path")
    if not 0 <= radius < np.inf:
        raise ValueError(f"the radius must be finite and not negative, it is {radius}")
    p = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    near = np.zeros(len(p), dtype=np.bool_)
    if len(corners) == 0:
        return near
    rows, x, y = _by_height(p, corners.min(axis=0) - radius, corners.max(axis=0) + radius)
    found = np.zeros(len(rows), dtype=np.bool_)
    starts, stops = (corners[:-1], corners[1:]) if len(corners) > 1 else (corners, corners)
    low, high = np.minimum(starts, stops) - radius, np.maximum(starts, stops) + radius
    first, last = np.searchsorted(y, low[:, 1]), np.searchsorted(y, high[:, 1], side="right")
    lengths = np.hypot(*(stops - starts).T)
    along = (stops - starts) / np.where(lengths > 0, lengths, 1.0)[:, None]
    for i, length in enumerate(lengths.tolist()):
        at_height = x[first[i] : last[i]]
        these = first[i] + np.flatnonzero((at_height >= low[i, 0]) & (at_height <= high[i, 0]))
        dx, dy = x[these] - starts[i, 0], y[these] - starts[i, 1]
        t = np.clip(dx * along[i, 0] + dy * along[i, 1], 0.0, length)
        found[these] |= np.hypot(dx - t * along[i, 0], dy - t * along[i, 1]) <= radius
    near[rows] = found
    return near


def _finite(corners: ArrayLike, name: str) -> NDArray[np.float64]:
    result = np.asarray(corners, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(result).all():
        raise ValueError(f"a {name} is not finite")
    return result


def _by_height(
    points: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return rows (m,) of the points in a box, ascending in y, and their x (m,) and y (m,)."""
    x, y = points[:, 0], points[:, 1]
    rows = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
    rows = rows[np.argsort(y[rows])]
    return rows, x[rows], y[rows]


class History:
    """Undo and redo over selections, which never change: a step is the selection itself.

    Parameters
    ----------
    first : Selection or None
        What is selected at the start; None is nothing.
    """

    LIMIT = 200
    """Selections that are kept, the present one among them; the oldest are forgotten."""

    def __init__(self, first: Selection | None = None) -> None:
        self._steps: list[Selection | None] = [first]
        self._at = 0

    @property
    def present(self) -> Selection | None:
        """The selection now."""
        return self._steps[self._at]

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier selection."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a later selection: something was undone, and nothing pushed since."""
        return self._at < len(self._steps) - 1

    def push(self, selection: Selection | None) -> None:
        """Make `selection` the present; what had been undone is forgotten."""
        self._steps = [*self._steps[: self._at + 1], selection][-self.LIMIT :]
        self._at = len(self._steps) - 1

    def undo(self) -> Selection | None:
        """Go one step back, if there is one, and return the present."""
        self._at = max(self._at - 1, 0)
        return self.present

    def redo(self) -> Selection | None:
        """Go one step forward again, if there is one, and return the present."""
        self._at = min(self._at + 1, len(self._steps) - 1)
        return self.present
