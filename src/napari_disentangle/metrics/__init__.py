"""Scores of codes, clusters and poses against a truth table, each defined once."""

from napari_disentangle.metrics.codes import (
    Score,
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
from napari_disentangle.metrics.evaluation import CodeScores, Evaluation, PoseScores, evaluate_codes
from napari_disentangle.metrics.poses import Alignment, align_frame, chance_errors, shift_errors
from napari_disentangle.metrics.truth import Truth, read_truth

__all__ = [
    "Alignment",
    "CodeScores",
    "Evaluation",
    "PoseScores",
    "Score",
    "Truth",
    "align_frame",
    "best_single",
    "chance_errors",
    "cluster_agreement",
    "difference",
    "evaluate_codes",
    "informativeness",
    "knn_accuracy",
    "logistic_accuracy",
    "read_truth",
    "separated_predictability",
    "shift_errors",
    "single_accuracies",
    "state_accuracy",
]
