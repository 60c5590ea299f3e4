"""Clusters: found where they are, numbered by size, the same again from a seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from napari_disentangle.clustering import cluster, membership, suggest_count
from napari_disentangle.errors import InputError

METHODS: tuple[Literal["gmm", "kmeans"], ...] = ("gmm", "kmeans")
SIZES = (30, 120, 60)


def groups(d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], SIZES)
    order = rng.permutation(len(truth))
    return (6.0 * truth[:, None] + rng.normal(size=(len(truth), d)))[order], truth[order]


@pytest.mark.parametrize("method", METHODS)
def test_finds_groups_and_numbers_them_by_size(method: Literal["gmm", "kmeans"]) -> None:
    codes, truth = groups()
    labels = cluster(codes, method=method, k=3, seed=5)
    assert labels.dtype == np.int64
    assert adjusted_rand_score(truth, labels) == 1
    assert np.bincount(labels).tolist() == sorted(SIZES, reverse=True)
    np.testing.assert_array_equal(cluster(codes, method=method, k=3, seed=5), labels)


@pytest.mark.parametrize("method", METHODS)
def test_dimensions_count_alike_whatever_their_scale(method: Literal["gmm", "kmeans"]) -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1], [60, 40])
    codes = np.stack([truth + 0.05 * rng.normal(size=100), 1e4 * rng.normal(size=100)], axis=1)
    assert adjusted_rand_score(truth, cluster(codes, method=method, k=2)) > 0.9


def test_a_mixture_sees_long_clusters_that_k_means_cuts() -> None:
    rng = np.random.default_rng(2)
    truth = np.repeat([0, 1], [300, 200])
    codes = np.stack([10 * rng.normal(size=500), truth * 1.5 + 0.1 * rng.normal(size=500)], axis=1)
    codes[:, 1] += codes[:, 0] * 0.1
    assert adjusted_rand_score(truth, cluster(codes, method="gmm", k=2)) > 0.95
    assert adjusted_rand_score(truth, cluster(codes, method="kmeans", k=2)) < 0.5


def test_in_many_dimensions_clusters_are_as_free_as_the_particles_tell() -> None:
    rng = np.random.default_rng(4)
    truth = np.repeat([0, 1, 2], 240)
    round_ones = 0.9 * rng.normal(size=(3, 20))[truth] + rng.normal(size=(len(truth), 20))
    assert suggest_count(round_ones, most=4) == 3, "of full covariances, with 231 numbers each, it would be 4"
    slants = np.array([np.linalg.qr(rng.normal(size=(8, 8)))[0] * np.geomspace(3, 0.1, 8) for _ in range(3)])
    long_ones = np.einsum("nij,nj->ni", slants[truth], rng.normal(size=(len(truth), 8)))
    assert adjusted_rand_score(truth, cluster(long_ones, k=3)) > 0.95, "one variance per axis sees one heap"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 3), (2, 2, 1), (5, 5, 8), (40, 3, 30)])
def test_few_particles(method: Literal["gmm", "kmeans"], n: int, k: int, d: int) -> None:
    labels = cluster(np.random.default_rng(3).normal(size=(n, d)), method=method, k=k)
    assert labels.shape == (n,)
    counts = np.bincount(labels)
    assert (counts > 0).all()
    assert (np.diff(counts) <= 0).all()
    assert labels.max() < k


@pytest.mark.parametrize("method", METHODS)
def test_identical_particles_share_a_cluster(method: Literal["gmm", "kmeans"]) -> None:
    assert (cluster(np.ones((10, 3)), method=method, k=3) == 0).all()


def test_membership_belongs_to_the_numbers_of_the_clusters() -> None:
    codes, _ = groups()
    codes = codes * 0.2 + np.random.default_rng(4).normal(size=codes.shape)
    sure = membership(codes, k=3, seed=1)
    assert sure.shape == (210, 3)
    np.testing.assert_allclose(sure.sum(axis=1), 1)
    np.testing.assert_array_equal(sure.argmax(axis=1), cluster(codes, k=3, seed=1))
    assert (sure.max(axis=1) < 0.95).any()


@pytest.mark.parametrize("method", METHODS)
def test_bad_input(method: Literal["gmm", "kmeans"]) -> None:
    codes = np.zeros((4, 2))
    for k in (0, -1, 5):
        with pytest.raises(InputError, match="between 1 and 4"):
            cluster(codes, method=method, k=k)
    with pytest.raises(InputError, match="NaN"):
        cluster(np.array([[0.0], [np.inf], [1.0]]), method=method, k=2)
    with pytest.raises(InputError, match="shape"):
        cluster(np.zeros(4), method=method, k=2)
    with pytest.raises(InputError, match="choose gmm or kmeans"):
        cluster(codes, method="dbscan", k=2)  # type: ignore[arg-type]


def test_as_many_clusters_are_suggested_as_there_are_blobs() -> None:
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [8, 0], [0, 8], [8, 8]])
    codes = np.concatenate([rng.normal(centre, 0.5, (60, 2)) for centre in centres])
    assert suggest_count(codes, most=7) == 4
    assert suggest_count(codes, most=2) <= 2
    assert suggest_count(codes[:1], most=7) == 1


def test_more_particles_than_are_fitted_are_all_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, truth = groups()
    monkeypatch.setattr("napari_disentangle.clustering.MOST", 100)
    labels = cluster(codes, k=3)
    assert len(labels) == len(truth)
    assert adjusted_rand_score(truth, labels) == 1
