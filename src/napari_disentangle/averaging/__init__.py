"""Aligned averages of selections, half maps, FSC, and how they compare with known maps."""

from napari_disentangle.averaging.align import Average, average, pose_to
from napari_disentangle.averaging.compare import Comparison, compare
from napari_disentangle.averaging.evaluate import AverageEvaluation, evaluate_average
from napari_disentangle.averaging.fsc import fsc, resolution
from napari_disentangle.averaging.match import Match, match_volume, onto

__all__ = [
    "Average",
    "AverageEvaluation",
    "Comparison",
    "Match",
    "average",
    "compare",
    "evaluate_average",
    "fsc",
    "match_volume",
    "onto",
    "pose_to",
    "resolution",
]
