"""Pose errors: what is left after the one rigid motion that a model's canonical frame may differ by, per identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.geometry import geodesic_angle, symmetry_matrices

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

CANDIDATES = 300
"""Motions tried, each the right one if one particle's estimate were."""
JUDGES = 600
"""Particles that a candidate is judged by."""


@dataclass(frozen=True)
class Alignment:
    """Estimated poses after the best rigid motion."""

    frame: Floats
    """(3, 3), ``Q`` with ``A_estimate @ Q`` close to ``A_true`` up to symmetry."""
    errors: Floats
    """(n,) geodesic angles left, in degrees."""


def align_frame(estimates: ArrayLike, truths: ArrayLike, symmetry: str = "C1", *, seed: int = 0) -> Alignment:
    """Return the rotation between the estimates' canonical frame and the reference, and the errors left after it.

    A model's canonical volume is the reference turned by an unknown ``Q``, so that estimates are right if
    ``A_estimate Q = A_true S`` for one ``Q`` and a symmetry ``S`` of the reference. Every particle proposes
    ``Q = A_estimate^T A_true``; the proposal with the smallest median error wins, and is refined by averaging the
    proposals that agree with it.

    Parameters
    ----------
    estimates : (n, 3, 3)
        Reference -> particle, xyz.
    truths : (n, 3, 3)
    symmetry : str
        Of the reference, as `symmetry_matrices` reads it.
    seed : int
        Of the sample of proposals, for more than 300 particles.
    """
    a, b = np.asarray(estimates, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    rng = np.random.default_rng(seed)
    relative = np.swapaxes(a, 1, 2) @ b
    copies = symmetry_matrices(symmetry)
    candidates = relative[_some(len(a), CANDIDATES, rng)]
    judges = relative[_some(len(a), JUDGES, rng)]
    turned = (judges[:, None] @ copies).reshape(len(judges), len(copies), 9)
    # The angle falls as the trace of the difference grows, so that no arc cosine is needed to compare.
    traces = np.array([np.median((turned @ q.reshape(9)).max(axis=1)) for q in candidates])
    frame = candidates[traces.argmax()]
    errors, nearest = _error(frame, relative, copies)
    for _ in range(20):
        close = errors <= max(2 * float(np.median(errors)), 1e-3)
        proposal = _mean_rotation(nearest[close])
        left, moved = _error(proposal, relative, copies)
        if np.median(left) >= np.median(errors):
            break
        frame, errors, nearest = proposal, left, moved
    return Alignment(frame, errors)


def chance_errors(
    estimates: ArrayLike, truths: ArrayLike, symmetry: str = "C1", *, seed: int = 0, rounds: int = 3
) -> Floats:
    """Return (rounds * n,) errors of estimates permuted between the particles and aligned in the same way."""
    a = np.asarray(estimates, dtype=np.float64)
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [align_frame(a[rng.permutation(len(a))], truths, symmetry, seed=seed).errors for _ in range(rounds)]
    )


def shift_errors(rotations: ArrayLike, offsets: ArrayLike, true_offsets: ArrayLike) -> Floats:
    """Return how far each particle's centre is missed, after one offset of the canonical frame is taken away.

    A canonical volume may sit off its centre by some ``u``, which an estimate makes up for: its particle is centred at
    ``p + A u``. ``u`` is the geometric median over the particles, so that a few wild ones do not move it.

    Parameters
    ----------
    rotations : (n, 3, 3)
        Estimated ``A``; no symmetry is needed, as ``u`` is in the estimate's own frame.
    offsets : (n, 3)
        Estimated ``p``, xyz.
    true_offsets : (n, 3)
        In the same unit.

    Returns
    -------
    (n,)
        Distances, in that unit.
    """
    a = np.asarray(rotations, dtype=np.float64)
    missing = np.einsum(
        "nji,nj->ni", a, np.asarray(true_offsets, dtype=np.float64) - np.asarray(offsets, dtype=np.float64)
    )
    u = np.median(missing, axis=0)
    for _ in range(50):  # Weiszfeld's algorithm
        weight = 1 / np.maximum(np.linalg.norm(missing - u, axis=1), 1e-9)
        u = weight @ missing / weight.sum()
    return np.linalg.norm(missing - u, axis=1)


def _some(count: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.arange(count) if count <= most else rng.choice(count, most, replace=False)


def _error(frame: Floats, relative: Floats, copies: Floats) -> tuple[Floats, Floats]:
    """Return the angle to the nearest symmetric copy of each (n, 3, 3) proposal, and that copy."""
    turned = relative[:, None] @ copies
    nearest = turned[np.arange(len(relative)), np.einsum("ij,nkij->nk", frame, turned).argmax(axis=1)]
    return geodesic_angle(frame, nearest), nearest


def _mean_rotation(rotations: Floats) -> Floats:
    """Return the rotation nearest to all of (n, 3, 3) in the sense of least squares (Kabsch 1976)."""
    u, _, v = np.linalg.svd(rotations.mean(axis=0))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
