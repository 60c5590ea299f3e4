from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_disentangle.averaging.halves import split_halves
from napari_disentangle.particles import ParticleSet, Tomogram

PARTICLES = ParticleSet(path=Path("particles.star"), ids=np.arange(20))


def test_the_lists_own_are_kept() -> None:
    halves = np.array([1, 2, 2, 1] * 5)
    assert split_halves(replace(PARTICLES, halves=halves), distance=1).tolist() == halves.tolist()


def test_one_half_only_is_no_split() -> None:
    split = split_halves(replace(PARTICLES, halves=np.ones(20, np.int64)), distance=1)
    assert np.bincount(split).tolist() == [0, 10, 10]


def test_tomograms_stay_whole() -> None:
    tomogram = np.repeat([0, 1, 2, 3], 5)
    names = tuple(Tomogram(name=str(k)) for k in range(4))
    split = split_halves(replace(PARTICLES, tomogram=tomogram, tomograms=names), distance=1)
    assert [len(set(split[tomogram == k])) for k in range(4)] == [1] * 4
    assert np.bincount(split).tolist() == [0, 10, 10]


def test_one_large_tomogram_is_split() -> None:
    tomogram = np.array([0] * 19 + [1])
    split = split_halves(replace(PARTICLES, tomogram=tomogram, tomograms=(Tomogram("a"), Tomogram("b"))), distance=1)
    assert np.bincount(split).tolist() == [0, 10, 10]


def test_neighbours_share_a_half_within_their_tomogram() -> None:
    positions = np.stack([np.arange(20) // 2 * 1000.0 + np.arange(20) % 2 * 50, np.zeros(20), np.zeros(20)], axis=1)
    split = split_halves(replace(PARTICLES, positions=positions), distance=60)
    assert (split[::2] == split[1::2]).all()
    assert np.bincount(split).tolist() == [0, 10, 10]


def test_a_chain_of_all_is_cut_across() -> None:
    along = np.random.default_rng(0).permutation(20) * 40.0
    split = split_halves(replace(PARTICLES, positions=np.stack([along * 0, along, along * 0], axis=1)), distance=60)
    assert np.bincount(split).tolist() == [0, 10, 10]
    changes = np.count_nonzero(np.diff(split[np.argsort(along)]))
    assert changes <= 3  # few neighbours are parted


def test_two_chains_stay_whole() -> None:
    """Dealt out whole they are even, so that no neighbours are parted."""
    along = np.concatenate([np.arange(10) * 40.0, 1e5 + np.arange(10) * 40.0])
    positions = np.stack([along, along * 0, along * 0], axis=1)
    for seed in range(6):
        split = split_halves(replace(PARTICLES, positions=positions), distance=60, seed=seed)
        assert len(set(split[:10])) == len(set(split[10:])) == 1
        assert split[0] != split[10]


def test_the_seed_decides() -> None:
    first, again, other = (split_halves(PARTICLES, distance=1, seed=s) for s in (0, 0, 1))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
