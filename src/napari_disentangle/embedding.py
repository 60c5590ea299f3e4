"""Two-dimensional maps of codes, to look at and to draw in; clusters are found in the codes themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

FEWEST = 3
"""Particles that a map needs."""
NEIGHBOURS = 15
"""Of each particle in UMAP's graph, itself included."""


def embed(codes: ArrayLike, *, method: Literal["umap", "pca"] = "umap", seed: int = 0) -> NDArray[np.float32]:
    """Return a map of the codes, each dimension standardised first.

    Parameters
    ----------
    codes : (n, d)
    method : {"umap", "pca"}
        UMAP (McInnes et al. 2018) starts from the PCA map and runs in one thread, so that a seed gives the same map
        again. PCA of one or two dimensions is those dimensions, standardised.
    seed : int
        PCA needs none.

    Returns
    -------
    (n, 2), float32
        Without units. PCA of a single dimension has zeros as its second axis.

    Raises
    ------
    InputError
        For fewer than 3 particles, codes that are not finite, or an unknown method.
    """
    x = np.asarray(codes, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"A map needs codes of shape (particles, dimensions), not {x.shape}.")
    if len(x) < FEWEST:
        raise InputError(f"A map needs at least {FEWEST} particles, not {len(x)}; choose more.")
    if not np.isfinite(x).all():
        raise InputError("The codes hold NaN or infinite numbers and cannot be mapped; train the model again.")
    from sklearn.preprocessing import StandardScaler

    x = np.asarray(StandardScaler().fit_transform(x))
    if method == "pca":
        return _pca(x).astype(np.float32)
    if method == "umap":
        return _umap(x, seed)
    raise InputError(f'There is no map called "{method}"; choose umap or pca.')


def _pca(x: Floats) -> Floats:
    n, d = x.shape
    if d <= 2:
        return np.pad(x, ((0, 0), (0, 2 - d)))
    if not x.any():
        return np.zeros((n, 2))
    from sklearn.decomposition import PCA

    return np.asarray(PCA(2, svd_solver="full").fit_transform(x))


def _umap(x: Floats, seed: int) -> NDArray[np.float32]:
    # Numba, when it starts, sets the number of OpenMP threads of the thread that calls it, so it gets one of its own:
    # training in the caller's would no longer give the same numbers.
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(_umap_here, x, seed).result()


def _umap_here(x: Floats, seed: int) -> NDArray[np.float32]:
    import warnings

    # A start without spread would be divided by zero, and twins would never part.
    start = _pca(x)
    start = start + 1e-4 * max(float(start.std()), 1.0) * np.random.default_rng(seed).standard_normal(start.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow and of isolated particles: nothing to act on
        import umap

        settings: dict[str, Any] = {"init": start.astype(np.float32), "random_state": seed, "n_jobs": 1}
        model = umap.UMAP(n_neighbors=min(NEIGHBOURS, len(x) - 1), **settings)
        result: Any = model.fit_transform(x.astype(np.float32))
    return np.asarray(result, dtype=np.float32)
