"""Accuracies, their differences and agreement of clusters, for codes whose scores are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.metrics import (
    Score,
    Truth,
    best_single,
    cluster_agreement,
    difference,
    informativeness,
    knn_accuracy,
    logistic_accuracy,
    separated_predictability,
    single_accuracies,
    state_accuracy,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def one_hot(labels: np.ndarray, seed: int = 1) -> np.ndarray:
    names, index = np.unique(labels, return_inverse=True)
    return np.eye(len(names))[index] + 0.05 * np.random.default_rng(seed).standard_normal((len(labels), len(names)))


def random_codes(n: int, d: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def number(score: Score) -> float:
    assert score.value is not None, score.reason
    return score.value


def test_perfect_codes_score_one_and_random_codes_score_chance(truth: Truth) -> None:
    for measure in (knn_accuracy, logistic_accuracy):
        perfect = measure(one_hot(truth.identity), truth.identity)
        assert (perfect.value, perfect.chance, perfect.reason) == (1, 1 / 3, None)
        assert abs(number(measure(random_codes(120, 3), truth.identity)) - 1 / 3) < 0.13


def test_chance_is_the_rate_of_the_largest_class() -> None:
    labels = np.repeat(["a", "b"], [70, 30])
    score = logistic_accuracy(random_codes(100, 2), labels)
    assert score.chance == pytest.approx(0.7)
    assert score.expected == pytest.approx(0.58)


def test_accuracies_are_held_out_and_stratified() -> None:
    labels = np.array([f"pair {i // 5}" for i in range(200)])
    far = np.arange(200)[:, None] * 1.0  # every class is a run of five: only its other members tell
    assert number(knn_accuracy(np.random.default_rng(0).permutation(far), labels)) < 0.1
    assert (
        number(logistic_accuracy(random_codes(200, 150), np.repeat(["a", "b"], 100))) < 0.65
    )  # fits its own part fully


def test_codes_are_standardised(truth: Truth) -> None:
    codes = np.concatenate([one_hot(truth.identity), 1e6 * random_codes(120, 1)], axis=1)
    assert number(knn_accuracy(codes, truth.identity)) > 0.95
    np.testing.assert_allclose(number(logistic_accuracy(codes, truth.identity)), 1)


def test_knn_and_logistic_regression_differ_where_they_should() -> None:
    rng = np.random.default_rng(3)
    codes = rng.uniform(-1, 1, (400, 2))
    labels = np.where(codes[:, 0] * codes[:, 1] > 0, "same", "different")
    assert number(knn_accuracy(codes, labels)) > 0.9
    assert number(logistic_accuracy(codes, labels)) < 0.65


def test_the_best_single_dimension(truth: Truth) -> None:
    line = np.unique(truth.identity, return_inverse=True)[1][:, None] + 0.01 * random_codes(120, 1)
    codes = np.concatenate([random_codes(120, 2), line], axis=1)
    each = single_accuracies(codes, truth.identity)
    assert each.shape == (3,)
    assert each.argmax() == 2
    assert best_single(each, truth.identity).value == 1
    assert number(separated_predictability(each, truth.identity)) == pytest.approx(1 - np.sort(each)[1])


def test_sap_needs_two_dimensions(truth: Truth) -> None:
    assert "second best" in (separated_predictability([0.5], truth.identity).reason or "")


def test_states_are_scored_within_identities(truth: Truth) -> None:
    # The state's sign is reversed in one identity: nothing to see across identities, everything within each.
    sign = np.where(truth.identity == "spike", -1, 1) * np.where(truth.state == "open", 1, -1)
    codes = sign[:, None] + 0.1 * random_codes(120, 2)
    assert number(state_accuracy(codes, truth.identity, truth.state)) == 1
    assert number(logistic_accuracy(codes, truth.state)) < 0.9
    assert state_accuracy(codes, truth.identity, truth.state).chance == 0.5
    # An identity does not help to tell its own states.
    assert number(state_accuracy(one_hot(truth.identity), truth.identity, truth.state)) < 0.7


def test_states_average_over_identities_that_have_several(truth: Truth) -> None:
    state = np.where(truth.identity == "nucleosome", "only", truth.state)
    rare = np.where(np.arange(120) == 119, "rare", state)
    codes = one_hot(truth.state)
    codes[truth.identity == "groel-groes"] = random_codes(40, 2)
    plain = state_accuracy(codes, truth.identity, state)
    assert plain.reason is None
    assert 0.6 < number(plain) < 0.85  # the mean of one and of chance
    score = state_accuracy(codes, truth.identity, rare)
    assert "spike: rare has 1 particles" in (score.reason or "")
    assert number(score) == pytest.approx(2 * number(plain) - 1)
    none = state_accuracy(codes, truth.identity, truth.identity)
    assert none == Score(reason="no identity has two states")


@pytest.mark.parametrize("measure", [knn_accuracy, logistic_accuracy])
def test_what_cannot_be_scored_says_why(measure: Callable[..., Score]) -> None:
    assert measure(random_codes(20, 2), np.repeat("a", 20)) == Score(reason="fewer than two classes")
    few = measure(random_codes(20, 2), np.repeat(["a", "b"], [16, 4]))
    assert few == Score(reason="b has 4 particles and five folds need 5")
    assert measure(np.empty((20, 0)), np.repeat(["a", "b"], 10)).reason == "the code has no dimensions"
    assert cluster_agreement(random_codes(20, 2), np.repeat("a", 20))[0].value is None


def test_codes_that_are_not_finite_are_refused(truth: Truth) -> None:
    with pytest.raises(InputError, match="NaN"):
        knn_accuracy(np.full((120, 2), np.nan), truth.identity)
    with pytest.raises(InputError, match="one row"):
        knn_accuracy(np.zeros((3, 2)), truth.identity)


def test_differences_are_signed() -> None:
    a, b = Score(value=0.5, chance=0.3), Score(value=0.9, chance=0.3)
    assert number(difference(a, b)) == pytest.approx(-0.4)
    assert difference(a, b).chance == 0
    assert difference(a, Score(reason="none")).reason == "none"
    assert str(difference(a, b)) == "-0.400"


def test_agreement_of_clusters(truth: Truth) -> None:
    ari, nmi = cluster_agreement(one_hot(truth.identity), truth.identity)
    assert (ari.value, nmi.value) == (1, 1)
    assert abs(ari.chance or 1) < 0.05
    assert 0 < (nmi.chance or 0) < 0.1
    ari, nmi = cluster_agreement(random_codes(120, 3), truth.identity)
    assert abs(number(ari)) < 0.1


def test_informativeness_is_the_part_of_the_explained_variance_that_is_lost() -> None:
    assert number(informativeness(0.8, 0.2)) == pytest.approx(0.75)
    assert number(informativeness(0.5, 0.5)) == 0  # the decoder ignores the code
    assert number(informativeness(0.5, -0.25)) == pytest.approx(1.5)  # another particle's is worse than none
    assert number(informativeness(0.5, 0.6)) == pytest.approx(-0.2)
    for explained, permuted in ((0.0, 0.5), (-0.1, -0.2), (np.nan, 0.1), (0.5, np.nan)):
        score = informativeness(explained, permuted)
        assert score.value is None
        assert score.reason == "the reconstruction explains nothing"
