"""Maps: the same again from a seed, whatever the number of particles and dimensions."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Literal

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from napari_disentangle.embedding import embed
from napari_disentangle.errors import InputError

METHODS: tuple[Literal["umap", "pca"], ...] = ("umap", "pca")


def three_groups() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(c, 1, (40, 6)) for c in (0, 8, 16)]), np.repeat([0, 1, 2], 40)


@pytest.mark.parametrize("method", METHODS)
def test_groups_stay_apart_and_a_seed_gives_the_same_map(method: Literal["umap", "pca"]) -> None:
    codes, group = three_groups()
    first = embed(codes, method=method, seed=3)
    assert first.shape == (120, 2)
    assert first.dtype == np.float32
    assert silhouette_score(first, group) > 0.7
    np.testing.assert_array_equal(embed(codes, method=method, seed=3), first)


@pytest.mark.parametrize("first", ["torch", "umap"])
def test_umap_leaves_the_threads_of_its_caller_alone(first: str) -> None:
    script = (
        f"import {first}, numpy; from napari_disentangle.embedding import embed; "
        "embed(numpy.random.default_rng(0).random((40, 3))); import torch; print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "3"}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1"], "training in this process would no longer give the same numbers"


def test_umap_depends_on_its_seed() -> None:
    codes, _ = three_groups()
    assert not np.array_equal(embed(codes, seed=1), embed(codes, seed=2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(3, 1), (3, 4), (4, 2), (7, 9), (16, 1)])
def test_few_particles_and_dimensions(method: Literal["umap", "pca"], n: int, d: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = embed(np.random.default_rng(1).normal(size=(n, d)), method=method)
    assert result.shape == (n, 2)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("method", METHODS)
def test_constant_columns_and_identical_particles(method: Literal["umap", "pca"]) -> None:
    codes, _ = three_groups()
    padded = np.concatenate([codes, np.full((120, 1), 1e6)], axis=1)
    if method == "pca":
        np.testing.assert_allclose(embed(padded, method=method), embed(codes, method=method), atol=1e-4)
    assert np.isfinite(embed(padded, method=method)).all()
    assert np.isfinite(embed(np.ones((12, 5)), method=method)).all()


def test_pca_of_two_dimensions_is_those_two_standardised() -> None:
    codes = np.random.default_rng(2).normal(3, [5, 0.1], (50, 2))
    expected = (codes - codes.mean(0)) / codes.std(0)
    np.testing.assert_allclose(embed(codes, method="pca"), expected, atol=1e-5)
    line = embed(codes[:, :1], method="pca")
    np.testing.assert_allclose(line[:, 0], expected[:, 0], atol=1e-5)
    assert (line[:, 1] == 0).all()


def test_scale_of_a_dimension_does_not_matter() -> None:
    codes, _ = three_groups()
    scaled = embed(codes * [1, 10, 1000, 1, 1, 1e-6], method="pca")
    np.testing.assert_allclose(scaled, embed(codes, method="pca"), atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_bad_input(method: Literal["umap", "pca"]) -> None:
    with pytest.raises(InputError, match="at least 3"):
        embed(np.zeros((2, 4)), method=method)
    with pytest.raises(InputError, match="NaN"):
        embed(np.full((5, 2), np.nan), method=method)
    with pytest.raises(InputError, match="shape"):
        embed(np.zeros((5, 0)), method=method)
    with pytest.raises(InputError, match="choose umap or pca"):
        embed(np.zeros((5, 3)), method="map")  # type: ignore[arg-type]
