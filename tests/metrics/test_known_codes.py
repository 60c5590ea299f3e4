"""Every score of an evaluation, on codes whose answer is known: perfect, random, swapped, collapsed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from napari_disentangle.metrics import Evaluation, Score, Truth, evaluate_codes
from napari_disentangle.metrics.evaluation import CodeScores

EACH, IDENTITIES, STATES = 60, ("nucleosome", "ribosome", "spike"), ("closed", "half", "open")
N = EACH * len(IDENTITIES)
CHANCE = 1 / 3
TOLERANCE = 0.12
"""Accuracies of 180 particles by luck differ from chance by less than this."""


class Codes(NamedTuple):
    content: np.ndarray
    transform: np.ndarray


@pytest.fixture(scope="module")
def truth() -> Truth:
    """Three identities, each in three states, all alike in number."""
    return Truth(Path("truth.csv"), np.arange(N), np.repeat(IDENTITIES, EACH), np.tile(STATES, N // len(STATES)))


def one_hot(labels: np.ndarray, seed: int) -> np.ndarray:
    names, index = np.unique(labels, return_inverse=True)
    return np.eye(len(names))[index] + 0.05 * np.random.default_rng(seed).standard_normal((len(labels), len(names)))


@pytest.fixture(scope="module")
def scored(truth: Truth) -> dict[str, CodeScores]:
    rng = np.random.default_rng(3)
    identity, state = one_hot(truth.identity, 1), one_hot(truth.state, 2)
    both = np.concatenate([identity, state], 1)
    line = np.unique(truth.identity, return_inverse=True)[1][:, None] + 0.01 * rng.standard_normal((N, 1))
    codes = {
        "perfect": Codes(identity, state),
        "random": Codes(rng.standard_normal((N, 3)), rng.standard_normal((N, 3))),
        "swapped": Codes(state, identity),
        "collapsed": Codes(np.full((N, 3), 2.0), np.zeros((N, 3))),
        "entangled": Codes(both, both),
        "line": Codes(np.concatenate([line, rng.standard_normal((N, 2))], 1), rng.standard_normal((N, 3))),
        "one code": Codes(identity, np.empty((N, 0))),
    }
    return {name: score(truth, *one).model for name, one in codes.items()}


def score(truth: Truth, content: np.ndarray, transform: np.ndarray, seed: int | None = None) -> Evaluation:
    order = np.arange(N) if seed is None else np.random.default_rng(seed).permutation(N)
    return evaluate_codes(truth.ids[order], content[order], transform[order], None, truth, voxel_size=None)


EXPECTED: dict[str, dict[str, float]] = {
    "perfect": {
        "p": 1, "p1": 2 / 3, "p_transform": CHANCE, "d_cc": 1, "d_cz": CHANCE, "d_zz": 1, "d_zc": CHANCE,
        "sap": 0, "sap_spaces": 2 / 3, "sap_c": 2 / 3, "sap_z": 2 / 3, "ari": 1, "nmi": 1, "ari_z": 1,
    },
    "random": {
        "p": CHANCE, "p1": CHANCE, "p_transform": CHANCE, "d_cc": CHANCE, "d_cz": CHANCE, "d_zz": CHANCE, "d_zc": CHANCE,
        "sap": 0, "sap_spaces": 0, "sap_c": 0, "sap_z": 0, "ari": 0, "nmi": 0, "ari_z": 0,
    },
    "swapped": {
        "p": CHANCE, "p1": CHANCE, "p_transform": 1, "d_cc": CHANCE, "d_cz": 1, "d_zz": CHANCE, "d_zc": 1,
        "sap": 0, "sap_spaces": -2 / 3, "sap_c": -2 / 3, "sap_z": -2 / 3, "ari": 0, "nmi": 0, "ari_z": 0,
    },
    "collapsed": {
        "p": CHANCE, "p1": CHANCE, "p_transform": CHANCE, "d_cc": CHANCE, "d_cz": CHANCE, "d_zz": CHANCE, "d_zc": CHANCE,
        "sap": 0, "sap_spaces": 0, "sap_c": 0, "sap_z": 0, "ari": 0, "nmi": 0, "ari_z": 0,
    },
    "entangled": {"p": 1, "p_transform": 1, "d_cc": 1, "d_cz": 1, "d_zz": 1, "d_zc": 1, "sap_c": 0, "sap_z": 0, "sap": 0, "ari_z": 1},
    "line": {"p": 1, "p1": 1, "sap": 2 / 3, "d_cc": 1, "d_cz": CHANCE},
    "one code": {"p": 1, "d_cc": 1, "d_zc": CHANCE, "ari": 1, "nmi": 1},
}  # fmt: skip


@pytest.mark.parametrize(("codes", "key"), [(codes, key) for codes, scores in EXPECTED.items() for key in scores])
def test_the_answer_is_known(scored: dict[str, CodeScores], codes: str, key: str) -> None:
    found: Score = getattr(scored[codes], key)
    assert found.value is not None, found.reason
    expected = EXPECTED[codes][key]
    exact = codes == "collapsed" or (expected in (0, 1) and codes != "random")
    assert found.value == pytest.approx(expected, abs=0.03 if exact else 1.5 * TOLERANCE)


def test_every_score_has_an_answer_that_is_known() -> None:
    scores = {key for key, field in CodeScores.model_fields.items() if field.annotation is Score}
    for codes in ("perfect", "random", "swapped", "collapsed"):
        assert scores == set(EXPECTED[codes]), codes


def test_chance_stands_beside_every_score(scored: dict[str, CodeScores]) -> None:
    for key in EXPECTED["random"]:
        chance = getattr(scored["perfect"], key).chance
        differs = key.startswith("sap")
        assert chance == pytest.approx(0 if differs or key in ("ari", "nmi", "ari_z") else CHANCE, abs=0.02)
        assert getattr(scored["random"], key).value == pytest.approx(chance, abs=TOLERANCE)


def test_what_one_code_cannot_have_says_why(scored: dict[str, CodeScores]) -> None:
    for key in ("d_cz", "d_zz", "p_transform", "sap_spaces", "sap_c", "sap_z", "ari_z"):
        found: Score = getattr(scored["one code"], key)
        assert found.value is None
        assert "the code has no dimensions" in (found.reason or "")


def test_the_order_of_particles_does_not_matter(truth: Truth) -> None:
    content, transform = one_hot(truth.identity, 1), one_hot(truth.state, 2)
    assert score(truth, content, transform) == score(truth, content, transform, seed=5)
