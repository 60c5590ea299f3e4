"""Averages of a run's selections: from the poses that it has, as near to them as its recipe says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.selection import Selection
from napari_disentangle.stages import average_selection
from napari_disentangle.training import fit, prepare

if TYPE_CHECKING:
    from pathlib import Path

CHOSEN = Selection("A/0", np.arange(12))


def test_where_a_model_knows_no_pose_yet_all_are_tried(tiny_stack: Path, tiny, tmp_path: Path) -> None:
    settings = [*tiny, "model.name=dualcontrast", "pose.mode=prior", "pose.search=true"]
    run = prepare(tiny_stack, tmp_path / "run", settings=settings)
    for _ in fit(run, device="cpu"):
        run.ask_to_stop()
    assert run.state() == "stopped"
    assert run.codes().pose is None
    assert average_selection(run, CHOSEN, rounds=0, starts=1).mode == "free"


def test_poses_stay_as_near_as_the_recipe_says(tiny_stack: Path, tiny, tmp_path: Path) -> None:
    histories = []
    for cone in (2, 60):
        run = prepare(tiny_stack, tmp_path / str(cone), settings=[*tiny, "pose.mode=fixed", f"pose.cone={cone}"])
        list(fit(run, device="cpu"))
        histories.append(average_selection(run, CHOSEN, mode="local", rounds=1, starts=1).history)
    assert histories[0] != histories[1]
