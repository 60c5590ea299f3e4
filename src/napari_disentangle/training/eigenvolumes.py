"""Eigenvolumes: along what the posed particles of one canonical frame fall into kinds.

Principal components of aligned particles have long told classes apart in a common frame (van Heel and Frank 1981,
*Ultramicroscopy* 6, 187). One is kept only where the particles fall into two heaps along it, of which one has clearly
more mass: particles that lie in two ways have the same, and those that bend nearly so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.averaging.match import sphere
from napari_disentangle.geometry import align_volumes
from napari_disentangle.models.base import MOST_EIGENVOLUMES, MOST_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_disentangle.training.inputs import Inputs

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Ints = NDArray[np.int64]

LOOKED_AT = 6
"""Components of a family that are looked at."""
MOST = 5000
"""Particles of a family that they are found from."""
FEWEST = 20
"""Particles of a heap."""
APART = 2.5
"""Least distance of two heaps, in their standard deviations."""
WIDEST = 8.0
"""Distance of two heaps as a model is told it, at most."""
MORE = 1.3
"""Least mass of one heap's average, in that of the other's: 1.41 was measured with a subunit more, 1.00 to 1.07 for
particles that lie in two ways, up to 1.22 for states of one molecule."""
_AT_ONCE = 256


@dataclass(frozen=True)
class Eigenvolumes:
    """What the particles of each canonical frame are compared with, and along what."""

    mean: Floats
    """(f, n, n, n) average of each family, inside the soft sphere; 0 for one without heaps."""
    axes: Floats
    """(f, k, n, n, n); ``sum((particle - mean) * axis)`` has heaps of at most unit deviation about 0."""

    @property
    def count(self) -> int:
        """Most components of any family."""
        return int((np.abs(self.axes).max((2, 3, 4)) > 0).sum(1).max())


def eigenvolumes(
    inputs: Inputs, mask: Floats, *, seed: int, progress: Callable[[float], None] = lambda _: None
) -> Eigenvolumes:
    """Return the components along which posed particles of a family fall into heaps.

    Parameters
    ----------
    inputs : Inputs
        With the poses and families of a search.
    mask : (n, n, n)
        Soft sphere at the coarse size.
    seed : int
    progress : callable
        Told the fraction done.
    """
    assert inputs.families is not None
    n = inputs.geometry.coarse
    mean = np.zeros((MOST_FAMILIES, n, n, n), np.float32)
    axes = np.zeros((MOST_FAMILIES, MOST_EIGENVOLUMES, n, n, n), np.float32)
    rng = np.random.default_rng(seed)
    families = np.unique(inputs.families)
    for done, family in enumerate(families):
        progress(done / len(families))
        rows = np.sort(rng.permutation(np.flatnonzero(inputs.families == family))[:MOST])
        volumes = _posed(inputs, rows) * mask
        found = _heaps_of(volumes, inputs.geometry.sphere * n, seed)
        if found:
            mean[family] = volumes.mean(0)
            axes[family, : len(found)] = found
    return Eigenvolumes(mean, axes)


def _posed(inputs: Inputs, rows: Ints) -> Floats:
    """Return particles (m, n, n, n) as their canonical frame has them, at the coarse size."""
    n = inputs.geometry.coarse
    parts: list[Floats] = []
    for k in range(0, len(rows), _AT_ONCE):
        batch = inputs.batch(rows[k : k + _AT_ONCE], n, "cpu")
        parts.append(align_volumes(batch.volumes, batch.rotations, batch.shifts * n).numpy())
    return np.concatenate(parts)


def _heaps_of(volumes: Floats, radius: float, seed: int) -> list[Floats]:
    """Return the axes of one family, scaled."""
    from sklearn.decomposition import PCA

    if len(volumes) < 2 * FEWEST:
        return []
    pca: Any = PCA(LOOKED_AT, svd_solver="randomized", random_state=seed)
    scores = pca.fit_transform(volumes.reshape(len(volumes), -1).astype(np.float64))
    found: list[Floats] = []
    for column, component in zip(scores.T, pca.components_, strict=True):
        scale = _scale(column, volumes, radius, seed) if len(found) < MOST_EIGENVOLUMES else 0.0
        if scale:
            found.append((scale * component).reshape(volumes.shape[1:]).astype(np.float32))
    return found


def _scale(scores: Doubles, volumes: Floats, radius: float, seed: int) -> float:
    """Return the factor that gives two heaps of scores (m,) unit deviation; 0 without heaps, or of the same mass."""
    from sklearn.mixture import GaussianMixture

    column = scores[:, None]
    two: Any = GaussianMixture(2, n_init=3, random_state=seed).fit(column)
    heap = two.predict(column)
    within, distance = float(np.sqrt(two.covariances_.mean())), float(np.ptp(two.means_))
    if min(np.bincount(heap, minlength=2)) < FEWEST or distance < APART * within:
        return 0.0
    inside = sphere(volumes.shape[-1], radius) > 0
    less, more = sorted(float(volumes[heap == k].mean(0)[inside].sum()) for k in (0, 1))
    if less <= 0 or more < MORE * less:
        return 0.0
    return min(1 / within, WIDEST / distance)
