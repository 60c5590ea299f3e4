"""Which states of one identity are taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_disentangle.benchmark.results import Confusion
from napari_disentangle.metrics.codes import FOLDS, SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray


def confusion_of(
    codes: NDArray[np.float32], states: NDArray[np.str_], identity: str, code: Literal["content", "transformation"]
) -> Confusion | None:
    """Return how logistic regression tells states from a code, on held-out particles, as `metrics.state_accuracy` does.

    Parameters
    ----------
    codes : (n, d)
    states : (n,)
        Their sorted names are taken for their order.
    identity : str
    code : "content" or "transformation"

    Returns
    -------
    Confusion or None
        None where the code has no dimensions or a state too few particles.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import confusion_matrix
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, counts = np.unique(states, return_counts=True)
    if codes.shape[1] == 0 or len(names) < 2 or counts.min() < FOLDS:
        return None
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    told = cross_val_predict(classifier, codes.astype(np.float64), states, cv=folds)
    matrix = confusion_matrix(states, told, labels=names)
    return Confusion(
        identity=identity, code=code, states=tuple(names.tolist()), counts=tuple(map(tuple, matrix.tolist()))
    )
