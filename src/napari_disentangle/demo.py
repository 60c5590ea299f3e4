"""The whole path on the packaged sample: from files nobody prepared to averages, an export and a report."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_disentangle.io.folder import check_new_folder
from napari_disentangle.sample import write_sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_disentangle.run import Run

MARKER = "DEMO.txt"
GROUPS = 3
NAME = "A"
SHORT = ("training.epochs=6", "training.fine_epochs=1")
"""Settings that keep the demo within three minutes on two cores."""


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    report: Path
    sample: Path
    boxes: Path
    run: Path
    exported: Path

    def places(self) -> list[tuple[str, Path]]:
        """Return what there is and where, for people."""
        return [
            ("report, open it in a browser", self.report),
            ("sample data", self.sample),
            ("boxes cut from the sample's tomogram", self.boxes),
            ("particles of the largest group", self.exported),
        ]


def run_demo(out: Path, *, train: Callable[[Run], None], tell: Callable[[str], None], overwrite: bool = False) -> Demo:
    """Simulate, extract, train, map, cluster, average, export, evaluate and report.

    Parameters
    ----------
    out : Path
        Folder to write.
    train : callable
        Trains the run it is given to the end, showing its progress.
    tell : callable
        Told what is being done, a line each.
    overwrite : bool
        Remove an earlier demo first.

    Raises
    ------
    InputError
        `out` exists, or cannot be written.
    """
    from napari_disentangle import io
    from napari_disentangle.export import export_selection
    from napari_disentangle.io.extract import extract
    from napari_disentangle.metrics import read_truth
    from napari_disentangle.report import write_report
    from napari_disentangle.stages import average_selection, cluster_run, embed_run, evaluate_averages, evaluate_run
    from napari_disentangle.training import prepare

    check_new_folder(out, marker=MARKER, overwrite=overwrite)
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARKER).write_text(
        "Written by `napari-disentangle demo`, which may replace this folder.\n", encoding="utf-8"
    )
    made = Demo(out / "report.html", out / "sample", out / "boxes", out / "run", out / "chosen.star")

    tell("Making the sample: a labelled stack, and a tomogram with its particles")
    sample = write_sample(made.sample)
    tell("Cutting boxes from the tomogram")
    extract(io.read_particles(sample.optimisation_set), made.boxes, box=32, edge="skip")
    tell("Training on the stack")
    run = prepare(sample.stack_star, made.run, settings=SHORT, reading={"tilt_range": (-90, 90)})
    train(run)
    tell("Mapping and grouping the particles by their content code")
    embed_run(run)
    groups = cluster_run(run, k=GROUPS, name=NAME)
    for group in groups:
        tell(f"Averaging {group.name}, {len(group)} particles")
        average_selection(run, group, rounds=1, starts=1)
    export_selection(run, groups[0], made.exported)
    tell("Comparing with the truth, which a real project does not have")
    truth = read_truth(sample.stack_truth)
    write_report(
        run, made.report, clustering=NAME, evaluation=evaluate_run(run, truth),
        averages=evaluate_averages(run, truth, sample.maps), files=made.places(), commands=next_commands(made),
    )  # fmt: skip
    return made


def next_commands(made: Demo) -> list[str]:
    """Return what to type next, with the demo's own paths."""
    run, boxes = shlex.quote(str(made.run)), shlex.quote(str(made.boxes))
    return [
        f"napari-disentangle cluster {run} --on content --within {NAME}/0 -k 2 --name B",
        f"napari-disentangle average {run} --selection B/0",
        f"napari-disentangle info {boxes}",
        f"napari-disentangle train {boxes} {shlex.quote(str(made.run.with_name('tomogram-run')))}",
    ]
