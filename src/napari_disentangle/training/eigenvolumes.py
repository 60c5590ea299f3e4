"""Eigenvolumes: along what the posed particles of one canonical frame differ.

Principal components of aligned particles have long told classes apart in a common frame (van Heel and Frank 1981,
*Ultramicroscopy* 6, 187). Many are no more than what is left of misalignment. Kinds, which a content code reads, are
components along which the particles fall into two heaps, one of clearly more mass: particles that lie in two ways have
the same, and those that bend nearly so. Conformations, which a transformation code reads, are components that no rigid
motion explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.averaging import match_volume
from napari_disentangle.averaging.points import sphere
from napari_disentangle.geometry import align_volumes
from napari_disentangle.models.base import MOST_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_disentangle.models.base import Differences
    from napari_disentangle.training.inputs import Inputs

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Ints = NDArray[np.int64]

FURTHER = 4
"""Components of a family that are looked at beyond those that there is room for."""
MOST = 5000
"""Particles of a family that they are found from."""
FEWEST = 20
"""Particles of a heap."""
APART = 2.5
"""Least distance of two heaps, in their standard deviations."""
WIDEST = 8.0
"""Distance of two heaps as a model is told it, at most."""
MORE = 1.25
"""Least mass of one heap's average, in that of the other's: 1.28 to 1.41 was measured with a subunit more, 1.00 to 1.07
for particles that lie in two ways, up to 1.22 for states of one molecule."""
LEFT = 0.25
"""Part of the difference between the two ends of a component that is left where one is turned onto the other, at least:
0.02 to 0.2 is left of particles that lie in two ways, 0.3 to 1 of a subunit in two places and of other states."""
_AT_ONCE = 256


@dataclass(frozen=True)
class Eigenvolumes:
    """What the particles of each canonical frame are compared with, and along what."""

    mean: Floats
    """(f, n, n, n) average of each family, inside the soft sphere; 0 for one without heaps."""
    axes: Floats
    """(f, k, n, n, n); ``sum((particle - mean) * axis)`` is a score about 0. Its deviation is 1 at most within a heap,
    and 1 over the family where it is a conformation's."""

    @property
    def count(self) -> int:
        """Most components of any family."""
        return int((np.abs(self.axes).max((2, 3, 4)) > 0).sum(1).max())


def eigenvolumes(
    inputs: Inputs, mask: Floats, of: Differences, room: int, *, seed: int, device: str = "cpu",
    progress: Callable[[float], None] = lambda _: None,
) -> Eigenvolumes:  # fmt: skip
    """Return the components along which posed particles of a family differ, in the order of their variance.

    Parameters
    ----------
    inputs : Inputs
        With the poses and families of a search.
    mask : (n, n, n)
        Soft sphere at the coarse size.
    of : "kinds" or "conformations"
    room : int
        Most components of a family.
    seed : int
    device : str
        For torch.
    progress : callable
        Told the fraction done.
    """
    assert inputs.families is not None
    n = inputs.geometry.coarse
    mean = np.zeros((MOST_FAMILIES, n, n, n), np.float32)
    axes = np.zeros((MOST_FAMILIES, room, n, n, n), np.float32)
    rng = np.random.default_rng(seed)
    families = np.unique(inputs.families)
    radius = inputs.geometry.sphere * n
    for done, family in enumerate(families):
        rows = np.sort(rng.permutation(np.flatnonzero(inputs.families == family))[:MOST])
        if len(rows) < 2 * FEWEST:
            continue
        volumes = _posed(inputs, rows, device) * mask
        centre = volumes.mean(0)
        scores, components = _principal(volumes, min(room + FURTHER, len(rows) - 1), seed)
        found = 0
        for k, component in enumerate(components):
            progress((done + k / len(components)) / len(families))
            if found == room:
                break
            if of == "kinds":
                scale = _scale_of_heaps(scores[:, k], volumes, radius, seed)
            else:
                scale = _scale_of_bending(scores[:, k], component, centre, radius, device)
            if scale:
                axes[family, found] = scale * component
                found += 1
        if found:
            mean[family] = centre
    return Eigenvolumes(mean, axes)


def two_heaps(inputs: Inputs, rows: Ints, alike: float, *, seed: int, device: str = "cpu") -> NDArray[np.bool_] | None:
    """Return which posed particles (m,) are in the first of two heaps that do not superpose; None where there are none.

    Heaps along the first of the principal components; averages of `alike` and more in correlation, one moved onto the
    other as well as it goes, are one molecule's, in two states or lying in two ways.
    """
    n, radius = inputs.geometry.coarse, inputs.geometry.sphere * inputs.geometry.coarse
    if len(rows) < 2 * FEWEST:
        return None
    volumes = _posed(inputs, rows, device) * sphere(n, radius)
    some = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST])
    _, components = _principal(volumes[some], min(FURTHER, len(some) - 1), seed)
    for component in components:
        heaps = _heaps(np.tensordot(volumes, component, 3), seed)
        if heaps is not None:
            one, other = (volumes[heaps[0] == k].mean(0) for k in (0, 1))
            if match_volume(one, other, radius=radius, device=device).correlation < alike:
                return heaps[0] == 0
    return None


def _posed(inputs: Inputs, rows: Ints, device: str) -> Floats:
    """Return particles (m, n, n, n) as their canonical frame has them, at the coarse size."""
    n = inputs.geometry.coarse
    parts: list[Floats] = []
    for k in range(0, len(rows), _AT_ONCE):
        batch = inputs.batch(rows[k : k + _AT_ONCE], n, device)
        parts.append(align_volumes(batch.volumes, batch.rotations, batch.shifts * n).cpu().numpy())
    return np.concatenate(parts)


def _principal(volumes: Floats, count: int, seed: int) -> tuple[Doubles, Doubles]:
    """Return scores (m, k) and components (k, n, n, n) of particles (m, n, n, n)."""
    from sklearn.decomposition import PCA

    pca: Any = PCA(count, svd_solver="randomized", random_state=seed)
    scores = pca.fit_transform(volumes.reshape(len(volumes), -1).astype(np.float64))
    return scores, pca.components_.reshape(count, *volumes.shape[1:])


def _scale_of_heaps(scores: Doubles, volumes: Floats, radius: float, seed: int) -> float:
    """Return the factor that gives two heaps of scores (m,) unit deviation; 0 without heaps, or of the same mass."""
    heaps = _heaps(scores, seed)
    if heaps is None:
        return 0.0
    heap, within, distance = heaps
    inside = sphere(volumes.shape[-1], radius) > 0
    less, more = sorted(float(volumes[heap == k].mean(0)[inside].sum()) for k in (0, 1))
    if less <= 0 or more < MORE * less:
        return 0.0
    return min(1 / within, WIDEST / distance)


def _heaps(scores: Doubles, seed: int) -> tuple[Ints, float, float] | None:
    """Return the heap, 0 or 1, of each of scores (m,), a heap's deviation, and their distance; None for one heap."""
    from sklearn.mixture import GaussianMixture

    column = scores[:, None]
    two: Any = GaussianMixture(2, n_init=3, random_state=seed).fit(column)
    heap = two.predict(column)
    within, distance = float(np.sqrt(two.covariances_.mean())), float(np.ptp(two.means_))
    if min(np.bincount(heap, minlength=2)) < FEWEST or distance < APART * within:
        return None
    return heap, within, distance


def _scale_of_bending(scores: Doubles, component: Doubles, mean: Floats, radius: float, device: str) -> float:
    """Return the factor that gives scores (m,) unit deviation; 0 where the component is a rigid motion or nothing."""
    deviation = float(scores.std())
    if not deviation:
        return 0.0
    one, other = ((mean + sign * 2 * deviation * component).astype(np.float32) for sign in (1, -1))
    inside = sphere(len(mean), radius) > 0
    as_they_are = float(np.corrcoef(one[inside], other[inside])[0, 1])
    if 1 - match_volume(one, other, radius=radius, device=device).correlation < LEFT * (1 - as_they_are):
        return 0.0
    return 1 / deviation
