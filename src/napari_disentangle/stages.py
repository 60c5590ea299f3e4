"""The stages of the path, each applied to a run folder: what a click, a command or a line of a script does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.folder import check_new_folder
from napari_disentangle.models import model_info
from napari_disentangle.run import Embedding
from napari_disentangle.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.averaging.evaluate import AverageEvaluation
    from napari_disentangle.export import AverageRecord
    from napari_disentangle.metrics import Evaluation, Score, Truth
    from napari_disentangle.run import Run

    SpaceName = Literal["content", "transform", "invariants"]
    Mode = Literal["free", "local", "fixed"]


@dataclass(frozen=True)
class Space:
    """Numbers that describe particles, to be mapped or clustered."""

    ids: NDArray[np.int64]
    """(n,) rows of the original list."""
    values: NDArray[np.float32]
    """(n, d)."""
    fingerprint: str
    """Of the codes; "" for invariants, which no training changes."""


def space_of(run: Run, name: SpaceName, *, within: str | None = None) -> Space:
    """Return the codes of a run's particles, or the invariants, which need no training.

    Parameters
    ----------
    run : Run
    name : {"content", "transform", "invariants"}
    within : str, optional
        Only the particles of this selection.

    Raises
    ------
    InputError
        Not trained yet, no such selection, or a selection of other particles.
    """
    if name == "invariants":
        from napari_disentangle.invariants import invariants

        particles = run.particles()
        space = Space(particles.ids, invariants(particles), "")
    else:
        codes = run.codes()
        space = Space(codes.ids, codes.content if name == "content" else codes.transform, codes.fingerprint)
    if within is None:
        return space
    chosen = np.isin(space.ids, run.selection(within).ids)
    if not chosen.any():
        raise InputError(f"{run.path}: none of the particles of {within} has codes; choose another selection.")
    return Space(space.ids[chosen], space.values[chosen], space.fingerprint)


def embed_run(run: Run, on: SpaceName = "content", *, method: Literal["umap", "pca"] = "umap", seed: int = 0) -> Path:
    """Map the particles of a run and keep the map in its folder, whose file is returned.

    Raises
    ------
    InputError
        As `space_of` and `embedding.embed`.
    """
    from napari_disentangle.embedding import embed

    space = space_of(run, on)
    found = embed(space.values, method=method, seed=seed)
    return run.save_embedding(Embedding(on, method, space.ids, found, space.fingerprint))


def cluster_run(
    run: Run,
    on: SpaceName = "content",
    *,
    k: int,
    name: str = "A",
    method: Literal["gmm", "kmeans"] = "gmm",
    within: str | None = None,
    seed: int = 0,
) -> list[Selection]:
    """Group the particles of a run and keep the groups as its selections ``name/0``, ``name/1``, the largest first.

    Parameters
    ----------
    run : Run
    on : {"content", "transform", "invariants"}
    k : int
        How many groups.
    name : str
        Earlier selections of that name are replaced.
    method : {"gmm", "kmeans"}
    within : str, optional
        Group only the particles of this selection.
    seed : int

    Raises
    ------
    InputError
        As `space_of` and `clustering.cluster`; or a name that cannot be a file's.
    """
    from napari_disentangle.clustering import cluster

    space = space_of(run, on, within=within)
    labels = cluster(space.values, method=method, k=k, seed=seed)
    how = {"cluster": method, "on": on, "within": within, "k": k, "seed": seed, "fingerprint": space.fingerprint}
    groups = [Selection(f"{name}/{j}", space.ids[labels == j], how) for j in range(labels.max() + 1)]
    run.save_selections(name, groups)
    return groups


def average_selection(
    run: Run,
    selection: Selection,
    out: Path | None = None,
    *,
    mode: Mode | None = None,
    rounds: int = 3,
    starts: int = 3,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> AverageRecord:
    """Average a selection, starting from the poses that the run learned, and write the folder of it.

    The decoded volume of the mean content is turned into the frame of the average, so that they can be compared.

    Parameters
    ----------
    run : Run
        Trained.
    selection : Selection
    out : Path, optional
        Folder to write; default the run's own, where an earlier average is replaced.
    mode : {"free", "local", "fixed"}, optional
        As in `averaging.average`; default as the run was trained, "local" for poses that it knew a part of, "free"
        where it has none.
    rounds, starts, seed, device, progress
        As in `averaging.average`.
    overwrite : bool
        Replace an earlier average in `out`.

    Raises
    ------
    InputError
        Not trained yet, too few particles, or `out` exists or cannot be written.
    """
    from napari_disentangle.averaging import average, onto
    from napari_disentangle.export.average import RECORD, write_average
    from napari_disentangle.training import decode

    folder, overwrite = (run.average_folder(selection.name), True) if out is None else (out, overwrite)
    check_new_folder(folder, marker=RECORD, overwrite=overwrite)
    codes, particles = run.codes(), run.particles()
    at = np.flatnonzero(np.isin(codes.ids, selection.ids))
    if len(at) < 2:
        raise InputError(f"{run.path}: {len(at)} particles of {selection.name} have codes, and an average needs 2.")
    trained: dict[str, Mode] = {"free": "free", "local": "local", "prior": "local", "fixed": "fixed"}
    chosen = mode or ("free" if codes.pose is None else trained[run.recipe.pose.mode])
    found = average(
        particles.subset(particles.rows_of(codes.ids[at])), None if codes.pose is None else codes.pose.subset(at),
        diameter=run.recipe.pose.diameter, mode=chosen, cone=run.recipe.pose.cone, rounds=rounds, starts=starts,
        seed=seed, device=device, progress=progress,
    )  # fmt: skip
    beside, size = None, None
    if model_info(run.recipe.model.name).decodes:
        decoded, size = decode(
            run, codes.content[at].mean(0, keepdims=True), codes.transform[at].mean(0, keepdims=True), device=device
        )
        radius = 0.55 * (run.recipe.pose.diameter or decoded.shape[-1] * size / 1.6) / size
        beside = onto(decoded[0], found.volume, radius=radius)
    return write_average(found, beside, size, folder, selection.name, chosen, codes.fingerprint, overwrite=overwrite)


def evaluate_run(
    run: Run, truth: Truth, *, symmetry: Mapping[str, str] | None = None, device: str = "cpu"
) -> Evaluation:
    """Score the codes of a run, and the invariants beside them.

    Parameters
    ----------
    run : Run
        Trained.
    truth : Truth
    symmetry : identity -> point group, optional
        As in `metrics.evaluate_codes`.
    device : str
        For torch.

    Raises
    ------
    InputError
        Not trained yet, or as `metrics.evaluate_codes`.
    """
    from napari_disentangle.invariants import invariants
    from napari_disentangle.metrics import evaluate_codes, informativeness
    from napari_disentangle.training.informativeness import explained_variance

    codes, particles = run.codes(), run.particles()
    scores = evaluate_codes(
        codes.ids, codes.content, codes.transform if codes.transform.shape[1] else None, codes.pose, truth, voxel_size=particles.voxel_size,
        invariants=invariants(particles.subset(particles.rows_of(codes.ids))), symmetry=symmetry,
    )  # fmt: skip
    informative: dict[str, Score] = {}
    if model_info(run.recipe.model.name).decodes:
        explained = explained_variance(run, device=device)
        informative = {name: informativeness(explained.own, value) for name, value in explained.permuted.items()}
    return scores.model_copy(update={"informativeness": informative})


def evaluate_averages(run: Run, truth: Truth, maps: Path, *, device: str = "cpu") -> list[AverageEvaluation]:
    """Correlate each average that the run keeps with the map of what most of its particles are.

    Parameters
    ----------
    run : Run
    truth : Truth
        With poses.
    maps : Path
        Folder of IDENTITY_STATE.mrc.
    device : str
        For torch.

    Raises
    ------
    InputError
        The run keeps no average, or as `averaging.evaluate.evaluate_average`.
    """
    from napari_disentangle.averaging.evaluate import evaluate_average
    from napari_disentangle.export.average import RECORD, read_average

    folders = {name: run.average_folder(name) for name in run.selections()}
    stored = {name: read_average(folder) for name, folder in folders.items() if (folder / RECORD).is_file()}
    if not stored:
        raise InputError(
            f"{run.path} has no averages yet; make one, with napari-disentangle average {run.path} --selection A/0."
        )
    particles = run.particles()
    found: list[AverageEvaluation] = []
    for name, one in stored.items():
        averaged = particles.subset(particles.rows_of(np.array(one.record.ids)))
        diameter = run.recipe.pose.diameter
        scores = evaluate_average(one.volume, averaged, truth, maps, selection=name, diameter=diameter, device=device)
        found.append(scores)
    return found
