"""Two halves of a selection, for half maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_disentangle.particles import ParticleSet

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def split_halves(particles: ParticleSet, *, distance: float, seed: int = 0) -> Ints:
    """Return 1 or 2 for each particle.

    The list's own half-sets where it has both; else whole tomograms, as even as they go; else, if that leaves a half
    with less than 30 %, at random, boxes whose centres are closer than `distance` (A) kept together; else, if
    that does too, chains of them that hold more than 40 % of all are cut across their longest axis, until none does.

    Returns
    -------
    (n,), int64
    """
    n = len(particles)
    if particles.halves is not None and set(np.unique(particles.halves).tolist()) == {1, 2}:
        return particles.halves.astype(np.int64)
    rng = np.random.default_rng(seed)
    if particles.tomogram is not None:
        halves = _deal(particles.tomogram, rng)
        if _even(halves):
            return halves
    if particles.positions is None:
        return _deal(np.arange(n), rng)
    groups = _neighbours(particles, distance)
    halves = _deal(groups, rng)
    return halves if _even(halves) else _deal(_cut(groups, particles.positions), rng)


def _even(halves: Ints) -> bool:
    return min((halves == 1).mean(), (halves == 2).mean()) >= 0.3


def _deal(groups: Ints, rng: np.random.Generator) -> Ints:
    """Deal groups out to two halves, the largest first, each to the smaller half; ties and equals at random."""
    names, which, count = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(-count[order], kind="stable")]
    half = np.zeros(len(names), dtype=np.int64)
    total = [0, 0]
    for k in order:
        side = int(total[1] < total[0])
        half[k] = side + 1
        total[side] += int(count[k])
    return half[which.reshape(-1)]


def _cut(groups: Ints, positions: Floats) -> Ints:
    """Cut groups of more than 40 % of the particles in two, each across its longest axis, again and again."""
    groups = groups.copy()
    most = max(1, int(0.4 * len(groups)))
    count = np.bincount(groups)
    while count.max() > most:
        rows = np.flatnonzero(groups == count.argmax())
        points = positions[rows] - positions[rows].mean(0)
        along = points @ np.linalg.svd(points, full_matrices=False)[2][0]
        groups[rows[np.argsort(along, kind="stable")[len(rows) // 2 :]]] = len(count)
        count = np.bincount(groups)
    return groups


def _neighbours(particles: ParticleSet, distance: float) -> Ints:
    """Return a group for each particle: those of one tomogram that are linked by steps shorter than `distance`."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    assert particles.positions is not None
    n = len(particles)
    tomogram = np.zeros(n, dtype=np.int64) if particles.tomogram is None else particles.tomogram
    # Tomograms side by side, farther apart than any step
    apart = np.ptp(particles.positions, axis=0).max(initial=0.0) + 2 * distance
    points = particles.positions + np.stack([tomogram * apart, np.zeros(n), np.zeros(n)], axis=1)
    pairs = KDTree(points).query_pairs(distance, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)
