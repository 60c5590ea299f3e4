"""What a run found, as sections of a page: maps, averages, scores, training, and where everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.export import read_average
from napari_disentangle.models import model_info
from napari_disentangle.report import figures
from napari_disentangle.report.page import Section, write_page
from napari_disentangle.stages import space_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.averaging.evaluate import AverageEvaluation
    from napari_disentangle.metrics import Evaluation
    from napari_disentangle.run import Run


def write_report(
    run: Run,
    out: Path,
    *,
    clustering: str,
    evaluation: Evaluation | None = None,
    averages: Sequence[AverageEvaluation] = (),
    files: Sequence[tuple[str, Path]] = (),
    commands: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the report of a trained run.

    Parameters
    ----------
    run : Run
    out : Path
        The HTML file.
    clustering : str
        The name whose selections (A/0, A/1, ...) colour the maps, and whose averages are shown.
    evaluation : Evaluation, optional
        Scores against a truth table.
    averages : sequence of AverageEvaluation
        The averages against known maps.
    files : (what, path) pairs
        Where things are, besides the run folder.
    commands : sequence of str
        What to type next.
    overwrite : bool

    Raises
    ------
    InputError
        Not trained yet, or `out` exists or cannot be written.
    """
    names = [name for name in run.selections() if name.partition("/")[0] == clustering]
    sections = [_summary(run, names), _maps(run, names), *_averages(run, names)]
    if evaluation is not None:
        sections.append(Section("Against the truth").words(_ABOUT_SCORES).commands(str(evaluation)))
    if averages:
        sections.append(Section("Averages against the maps").words(_ABOUT_MAPS).commands(*map(str, averages)))
    sections += [_training(run), _places(run, files, commands)]
    write_page(out, f"napari-disentangle: {run.path.name}", sections, overwrite=overwrite)


_ABOUT_SCORES = (
    "The invariants train nothing: a model that does no better has learnt nothing. P(c|z) is how often a particle's five "
    "nearest neighbours in content code name its molecule."
)


_ABOUT_MAPS = (
    "Correlation with the map of the molecule, best over one rigid motion, hand kept: of the plain mean of the boxes, of "
    "the average, and of the average at the true poses, which is what can be had."
)


def _summary(run: Run, names: list[str]) -> Section:
    codes, recipe = run.codes(), run.recipe
    started = next((event for event in run.events() if event["event"] == "started"), {})
    finished = [event for event in run.events() if event["event"] == "finished"]
    rows: list[tuple[object, ...]] = [
        ("particles", len(codes.ids)),
        ("from", recipe.input.particles),
        ("model", f"{recipe.model.name}, {codes.content.shape[1]} content dimensions, poses {recipe.pose.mode}"),
        ("trained", f"{codes.epoch} epochs, {started.get('words', '')}" + _seconds(finished)),
        ("groups", ", ".join(f"{name} ({len(run.selection(name))})" for name in names) or "none yet"),
    ]
    return Section("Summary").table((), rows)


def _seconds(finished: list[dict[str, Any]]) -> str:
    return f", {finished[-1]['seconds']:.0f} s" if finished else ""


def _maps(run: Run, names: list[str]) -> Section:
    from napari_disentangle.embedding import embed

    codes = run.codes()
    labels = np.full(len(codes.ids), -1, dtype=np.int64)
    for k, name in enumerate(names):
        labels[np.isin(codes.ids, run.selection(name).ids)] = k
    panels: dict[str, NDArray[Any]] = {}
    for method in ("umap", "pca"):
        stored = run.embedding("content", method)
        if stored is not None and stored.fingerprint == codes.fingerprint:
            panels[f"content, {method.upper()}"] = stored.coordinates
            break
    if not panels:
        panels["content, PCA"] = embed(codes.content, method="pca")
    baseline = space_of(run, "invariants")
    order = np.argsort(baseline.ids)[np.searchsorted(np.sort(baseline.ids), codes.ids)]
    panels["invariants (no training), PCA"] = embed(baseline.values, method="pca")[order]
    caption = "Every point is a particle. Groups were found in the code itself, not on the map."
    return Section("Maps").picture(figures.scatter(panels, labels, names), caption)


def _averages(run: Run, names: list[str]) -> list[Section]:
    sections: list[Section] = []
    for name in names:
        folder = run.average_folder(name)
        if not (folder / "average.json").is_file():
            continue
        stored = read_average(folder)
        volumes = {"average": stored.volume} | ({} if stored.decoded is None else {"decoded": stored.decoded})
        pictures = figures.average(volumes, stored.frequency, stored.fsc)
        caption = (
            f"{stored.record.count} particles; {stored.record.resolution_in_words()}. The FSC tells how well the average can be "
            "repeated, not that it is right."
        )
        if stored.decoded is not None:
            caption += " Decoded: the model's own idea of this group, turned onto the average."
        stale = stored.record.fingerprint != run.fingerprint()
        section = Section(f"Average of {name}" + (" (of an earlier training)" if stale else ""))
        sections.append(section.picture(pictures, caption))
    return sections


def _training(run: Run) -> Section:
    epochs = [event for event in run.events() if event["event"] == "epoch"]
    section = Section("Training")
    if not epochs:
        solved = model_info(run.recipe.model.name).kind == "linear"
        return section.words("Solved at once." if solved else "No epoch was finished.")
    at = np.array([float(event["epoch"]) for event in epochs])
    # Losses of the coarse and of the fine stage are no single curve: a gap parts them.
    sizes = np.array([event.get("size", 0) for event in epochs])
    gaps = np.flatnonzero(np.diff(sizes)) + 1
    lines: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for name in sorted({name for event in epochs for name in event["losses"]}):
        values = np.array([event["losses"].get(name, np.nan) for event in epochs])
        lines[name] = (np.insert(at, gaps, np.nan), np.insert(values, gaps, np.nan))
    caption = f"Terms of the loss, means over each epoch, at {' and '.join(str(n) for n in dict.fromkeys(sizes.tolist()))} voxels."
    return section.picture(figures.curves(lines, "epoch", "loss"), caption)


def _places(run: Run, files: Sequence[tuple[str, Path]], commands: Sequence[str]) -> Section:
    rows: list[tuple[object, ...]] = [(what, path.absolute()) for what, path in files]
    rows += [("run folder", run.path.absolute()), ("averages", (run.path / "averages").absolute())]
    section = Section("Where everything is").table((), rows)
    return section.words("To go on:").commands(*commands) if commands else section
