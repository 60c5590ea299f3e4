"""How much codes know of labels: held-out accuracies, their differences, and agreement of clusters.

Five-fold stratified cross-validation with a fixed seed; codes are standardised on each training part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_disentangle.clustering import cluster
from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.str_]

FOLDS = 5
NEIGHBOURS = 5
SEED = 0
PERMUTATIONS = 20


class Score(BaseModel):
    """One number, with what ignorance would score beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[float | None, Field(description="Held-out value; null where it cannot be had.")] = None
    chance: Annotated[float | None, Field(description="Of ignorance: the rate of the largest class.")] = None
    expected: Annotated[float | None, Field(description="Of guesses drawn with the classes' own rates.")] = None
    reason: Annotated[str | None, Field(description="Why there is no value, or what it leaves out.")] = None

    def __str__(self) -> str:
        return "-" if self.value is None else f"{self.value:+.3f}"


def knn_accuracy(codes: ArrayLike, labels: ArrayLike) -> Score:
    """Return P: the accuracy of the 5 nearest neighbours in the whole code.

    Parameters
    ----------
    codes : (n, d)
        Means of the codes, not samples.
    labels : (n,)
        Identities, or any other classes.

    Returns
    -------
    Score
        Without a value, but a reason, for fewer than two classes or fewer than 5 particles in one.
    """
    return _accuracy(codes, labels, _neighbours)


def single_accuracies(codes: ArrayLike, labels: ArrayLike) -> Floats:
    """Return (d,) accuracies of 5 nearest neighbours in each dimension alone, or none if labels cannot be scored."""
    x, y = _checked(codes, labels)
    if unfit(y):
        return np.empty(0)
    return np.array([_cross_validated(x[:, [j]], y, _neighbours) for j in range(x.shape[1])])


def best_single(accuracies: ArrayLike, labels: ArrayLike) -> Score:
    """Return P1, the best of `single_accuracies` of the content code.

    Parameters
    ----------
    accuracies : (c,)
    labels : (n,)
        That they were taken for.
    """
    found, y = np.asarray(accuracies, dtype=np.float64), np.asarray(labels).astype(str)
    return _score(found[None], y, lambda: float(found.max()))


def separated_predictability(accuracies: ArrayLike, labels: ArrayLike) -> Score:
    """Return Harmony's SAP, the best of `single_accuracies` minus the second best.

    Parameters
    ----------
    accuracies : (c + t,)
        Of the dimensions of the content and the transformation code, which compete together.
    labels : (n,)
        Identities that they were taken for.
    """
    found, y = np.sort(np.asarray(accuracies, dtype=np.float64)), np.asarray(labels).astype(str)
    reason = unfit(y) or (None if len(found) > 1 else "fewer than two dimensions have no second best")
    if reason:
        return Score(reason=reason)
    return Score(value=float(found[-1] - found[-2]), chance=0.0, expected=0.0)


def logistic_accuracy(codes: ArrayLike, labels: ArrayLike) -> Score:
    """Return D: the accuracy of logistic regression. Parameters as `knn_accuracy`."""
    return _accuracy(codes, labels, _regression)


def state_accuracy(codes: ArrayLike, identities: ArrayLike, states: ArrayLike) -> Score:
    """Return D of the state within each identity, averaged over the identities.

    Parameters
    ----------
    codes : (n, d)
    identities : (n,)
    states : (n,)

    Returns
    -------
    Score
        Identities of a single state do not count; any other that cannot be scored is named in `reason`.
    """
    return _within(logistic_accuracy, codes, identities, states)


def state_agreement(codes: ArrayLike, identities: ArrayLike, states: ArrayLike) -> Score:
    """Return the ARI of a Gaussian mixture with the true number of states in each identity, averaged over them.

    Parameters
    ----------
    codes, identities, states
        As `state_accuracy`.

    Returns
    -------
    Score
        As `state_accuracy`; chance as `cluster_agreement`.
    """
    return _within(lambda x, state: cluster_agreement(x, state)[0], codes, identities, states)


def _within(
    measure: Callable[[ArrayLike, ArrayLike], Score], codes: ArrayLike, identities: ArrayLike, states: ArrayLike
) -> Score:
    """Return the mean over identities of a score of the states of each."""
    x, identity = _checked(codes, identities)
    state = np.asarray(states).astype(str)
    scores: list[Score] = []
    left_out: list[str] = []
    for name in np.unique(identity):
        rows = identity == name
        if len(np.unique(state[rows])) < 2:
            continue
        score = measure(x[rows], state[rows])
        if score.value is None:
            left_out.append(f"{name}: {score.reason}")
        else:
            scores.append(score)
    reason = "; ".join(left_out) or None
    if not scores:
        return Score(reason=reason or "no identity has two states")
    values = np.array([[s.value, s.chance, s.expected] for s in scores], dtype=np.float64).mean(axis=0)
    return Score(value=float(values[0]), chance=float(values[1]), expected=float(values[2]), reason=reason)


def difference(first: Score, second: Score) -> Score:
    """Return ``first - second``, signed, chance 0; without a value where either has none."""
    if first.value is None or second.value is None:
        return Score(reason=first.reason if first.value is None else second.reason)
    return Score(value=first.value - second.value, chance=0.0, expected=0.0)


def cluster_agreement(codes: ArrayLike, labels: ArrayLike, *, seed: int = SEED) -> tuple[Score, Score]:
    """Return the ARI and NMI of a Gaussian mixture with the true number of classes.

    Parameters
    ----------
    codes : (n, d)
    labels : (n,)
    seed : int

    Returns
    -------
    (Score, Score)
        Adjusted Rand index and normalised mutual information; chance: the mean over 20 permutations of the clusters.
    """
    x, y = _checked(codes, labels)
    classes = len(np.unique(y))
    if classes < 2 or not x.shape[1]:
        score = Score(reason="fewer than two classes" if classes < 2 else "the code has no dimensions")
        return score, score
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = cluster(x, method="gmm", k=classes, seed=seed)
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(found) for _ in range(PERMUTATIONS)]

    def score_by(measure: Callable[..., float]) -> Score:
        chance = float(np.mean([measure(y, s) for s in shuffled]))
        return Score(value=float(measure(y, found)), chance=chance, expected=chance)

    return score_by(adjusted_rand_score), score_by(normalized_mutual_info_score)


def informativeness(explained: float, permuted: float) -> Score:
    """Return which part of the variance that a reconstruction explains is lost when a code is permuted.

    Parameters
    ----------
    explained : float
        Variance of the particles less the reconstruction's mean squared error, with every particle's own code.
    permuted : float
        The same with the code of another particle; negative where that is worse than the particles' mean.

    Returns
    -------
    Score
        ``1 - permuted / explained``; 0 for a code that the decoder ignores, which passes every test for a low D, and
        more than 1 where another particle's code is worse than none.
    """
    if not explained > 0 or not np.isfinite(permuted):
        return Score(reason="the reconstruction explains nothing")
    return Score(value=1 - permuted / explained, chance=0.0, expected=0.0)


def unfit(labels: Labels) -> str | None:
    """Return why labels (n,) cannot be cross-validated, or None."""
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        return "fewer than two classes"
    if counts.min() < FOLDS:
        few = counts.argmin()
        return f"{names[few]} has {counts[few]} particles and five folds need {FOLDS}"
    return None


def _checked(codes: ArrayLike, labels: ArrayLike) -> tuple[Floats, Labels]:
    x = np.asarray(codes, dtype=np.float64)
    y = np.asarray(labels).astype(str)
    if x.ndim != 2 or len(x) != len(y):
        raise InputError(f"Codes of shape {x.shape} do not fit {len(y)} labels; give one row of codes per particle.")
    if not np.isfinite(x).all():
        raise InputError("The codes hold NaN or infinite numbers and cannot be evaluated; train the model again.")
    return x, y


def _accuracy(codes: ArrayLike, labels: ArrayLike, classifier: Callable[[], Any]) -> Score:
    x, y = _checked(codes, labels)
    return _score(x, y, lambda: _cross_validated(x, y, classifier))


def _score(x: Floats, y: Labels, compute: Callable[[], float]) -> Score:
    reason = unfit(y) or (None if x.shape[1] else "the code has no dimensions")
    if reason:
        return Score(reason=reason)
    rates = np.unique(y, return_counts=True)[1] / len(y)
    return Score(value=compute(), chance=float(rates.max()), expected=float((rates**2).sum()))


def _cross_validated(x: Floats, y: Labels, classifier: Callable[[], Any]) -> float:
    """Return the mean accuracy over the held-out folds."""
    import warnings

    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    classes = np.unique(y, return_inverse=True)[1]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    found: list[float] = []
    with warnings.catch_warnings(), config_context(assume_finite=True, skip_parameter_validation=True):
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1,000 steps settle any accuracy
        for train, test in folds.split(x, classes):
            scaler = StandardScaler().fit(x[train])
            model = classifier().fit(scaler.transform(x[train]), classes[train])
            found.append(float(np.mean(model.predict(scaler.transform(x[test])) == classes[test])))
    return float(np.mean(found))


def _neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(NEIGHBOURS)


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)
