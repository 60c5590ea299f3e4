"""Clusters of particles, found in the space of codes and never on a map of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

RESTARTS = 10
MOST = 10_000
"""Particles that a mixture is fitted to; where there are more, a random choice of them, and all are assigned."""
MOST_CORRELATED = 4
"""Dimensions up to which a cluster has a full covariance, if there are particles enough."""


def cluster(codes: ArrayLike, *, method: Literal["gmm", "kmeans"] = "gmm", k: int, seed: int = 0) -> Ints:
    """Return the cluster of each particle, cluster 0 the largest.

    Codes are standardised per dimension, and the best of 10 starts is kept. Each cluster of the Gaussian mixture has a
    full covariance in up to 4 dimensions. In more, where that has many free numbers, it has that or one variance per
    principal axis of all codes: whichever has the lower Bayesian information criterion.

    Parameters
    ----------
    codes : (n, d)
    method : {"gmm", "kmeans"}
        Gaussian mixture or k-means.
    k : int
        Number of clusters.
    seed : int

    Returns
    -------
    (n,), int64
        0 to k - 1 by falling size, ties by the first particle; fewer where particles coincide.

    Raises
    ------
    InputError
        If k is below 1 or above the number of particles, codes are not finite, or the method is unknown.
    """
    x = _standardised(codes, k)
    if method == "gmm":
        return _by_size(_mixture(x, k, seed)[0])[0]
    if method == "kmeans":
        return _by_size(_quietly(_kmeans, x, k, seed))[0]
    raise InputError(f'There is no clustering called "{method}"; choose gmm or kmeans.')


def suggest_count(codes: ArrayLike, *, most: int = 8, seed: int = 0) -> int:
    """Return the number of clusters, up to `most`, whose mixture has the lowest Bayesian information criterion.

    Clusters that are not Gaussian are counted as several: the number is on the large side.

    Parameters
    ----------
    codes : (n, d)
    most : int
    seed : int

    Raises
    ------
    InputError
        As `cluster`.
    """
    x = _standardised(codes, 1)
    counts = range(1, min(most, len(x)) + 1)
    if len(counts) < 2:
        return 1
    return min(counts, key=lambda k: _fitted(x, k, seed, restarts=2)[1])


def membership(codes: ArrayLike, *, k: int, seed: int = 0) -> Floats:
    """Return how sure the mixture of `cluster` is of each particle.

    Parameters
    ----------
    codes : (n, d)
    k : int
    seed : int
        As given to `cluster`.

    Returns
    -------
    (n, k)
        Posterior probabilities, rows summing to 1; column j belongs to cluster j of `cluster` with method "gmm".

    Raises
    ------
    InputError
        As `cluster`.
    """
    labels, probabilities = _mixture(_standardised(codes, k), k, seed)
    order = _by_size(labels)[1]
    unused = np.setdiff1d(np.arange(k), order)
    return probabilities[:, np.concatenate([order, unused])]


def _standardised(codes: ArrayLike, k: int) -> Floats:
    x = np.asarray(codes, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"Clustering needs codes of shape (particles, dimensions), not {x.shape}.")
    if not 1 <= k <= len(x):
        raise InputError(f"{len(x)} particles cannot be put into {k} clusters; choose between 1 and {len(x)}.")
    if not np.isfinite(x).all():
        raise InputError("The codes hold NaN or infinite numbers and cannot be clustered; train the model again.")
    from sklearn.preprocessing import StandardScaler

    return np.asarray(StandardScaler().fit_transform(x))


def _mixture(x: Floats, k: int, seed: int) -> tuple[Ints, Floats]:
    if len(x) < 2:
        return np.zeros(len(x), np.int64), np.ones((len(x), 1))
    probabilities = _fitted(x, k, seed)[0]
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64), probabilities


def _fitted(x: Floats, k: int, seed: int, restarts: int = RESTARTS) -> tuple[Floats, float]:
    """Return the posteriors (n, k) of the likeliest mixture, and its Bayesian information criterion."""
    from sklearn.mixture import GaussianMixture

    d = x.shape[1]
    room = len(x) >= k * (d + 1) * (d + 2) // 2
    kinds = (["full"] if room else []) + (["diag"] if not room or d > MOST_CORRELATED else [])
    some = slice(None) if len(x) <= MOST else np.random.default_rng(seed).choice(len(x), MOST, replace=False)
    found: list[tuple[float, Floats]] = []
    for kind in kinds:
        turned = x if kind == "full" else x @ np.linalg.svd(x, full_matrices=False)[2].T
        settings: dict[str, Any] = {"covariance_type": kind, "max_iter": 500, "reg_covar": 1e-4}
        # k-means finds round clusters and random points long ones; either alone misses the likeliest mixture at times
        tried = [
            GaussianMixture(k, n_init=restarts, init_params=start, random_state=seed, **settings)
            for start in ("kmeans", "random_from_data")
        ]
        for model in tried:
            _quietly(model.fit, turned[some])
        model = max(tried, key=lambda one: float(one.lower_bound_))
        found.append((float(model.bic(turned[some])), np.asarray(model.predict_proba(turned))))
    criterion, posteriors = min(found, key=lambda one: one[0])
    return posteriors, criterion


def _kmeans(x: Floats, k: int, seed: int) -> Ints:
    from sklearn.cluster import KMeans

    settings: dict[str, Any] = {"n_init": RESTARTS, "random_state": seed}
    return np.asarray(KMeans(k, **settings).fit_predict(x), dtype=np.int64)


def _by_size(labels: Ints) -> tuple[Ints, Ints]:
    """Return the labels renumbered by falling size, and which old label each new one was."""
    old, first, count = np.unique(labels, return_index=True, return_counts=True)
    order = old[np.lexsort((first, -count))]
    rank = np.empty(labels.max() + 1, np.int64)
    rank[order] = np.arange(len(order))
    return rank[labels], order


def _quietly(function: Any, *arguments: Any) -> Any:
    """Call without the warnings about coinciding particles and slow convergence: the best start is kept anyway."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return function(*arguments)
