"""Commands on the codes of a run: embed, cluster, average, export, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from napari_disentangle.cli import progress
from napari_disentangle.cli.arguments import Device, Json, Overwrite, Seed, SelectionName, Space
from napari_disentangle.errors import InputError


def embed(run: Path, /, *, on: Space = "content", method: Literal["umap", "pca"] = "umap", seed: Seed = 0) -> None:
    """Make a map: two coordinates for each particle, kept in the run folder.

    Parameters
    ----------
    run
        A trained run.
    on
        Which code; or the invariants, which need no training.
    method
        UMAP, or the first two principal components.
    """
    from napari_disentangle.run import Run
    from napari_disentangle.stages import embed_run

    print(embed_run(Run.open(run), on, method=method, seed=seed))


def cluster(
    run: Path,
    /,
    *,
    on: Space = "content",
    within: SelectionName | None = None,
    method: Literal["gmm", "kmeans"] = "gmm",
    k: Annotated[int, Parameter(name="-k", validator=validators.Number(gte=1))],
    name: Annotated[str, Parameter(metavar="NAME")] = "A",
    seed: Seed = 0,
) -> None:
    """Group particles by their codes, and make a selection of each group, the largest first.

    Parameters
    ----------
    run
        A trained run.
    on
        Which code; or the invariants, which need no training.
    within
        Only group the particles of this selection.
    method
        Gaussian mixture, or k-means.
    k
        How many groups.
    name
        The selections are NAME/0, NAME/1, and so on; earlier ones of that name are replaced.
    """
    from napari_disentangle.run import Run
    from napari_disentangle.stages import cluster_run

    for group in cluster_run(Run.open(run), on, k=k, name=name, method=method, within=within, seed=seed):
        print(f"{group.name}: {len(group)} particles")


def average(
    run: Path,
    /,
    *,
    selection: SelectionName,
    out: Path | None = None,
    pose: Literal["free", "local", "fixed"] | None = None,
    rounds: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 3,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Align the particles of a selection to their own average, and write it with half maps, FSC and decoded volume.

    Parameters
    ----------
    run
        A trained run.
    out
        Folder to write; without it, the run's own, where an earlier average of the selection is replaced.
    pose
        Search all poses, those near the learned ones, or keep the learned ones; as in training where not given.
    rounds
        Of local refinement.
    """
    from napari_disentangle.run import Run
    from napari_disentangle.stages import average_selection
    from napari_disentangle.training.device import choose_device

    opened = Run.open(run)
    with progress.stages() as tell:
        record = average_selection(
            opened, opened.selection(selection), out, mode=pose, rounds=rounds, seed=seed,
            device=choose_device(device)[0], overwrite=overwrite, progress=tell,
        )  # fmt: skip
    print(f"{record.count} particles, {record.resolution_in_words()} -> {out or opened.average_folder(selection)}")


def export(
    run: Path,
    /,
    *,
    selection: SelectionName,
    out: Path,
    poses: bool = False,
    complement: bool = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the rows of the original list that a selection names, unchanged, with a JSON record beside them.

    Parameters
    ----------
    run
        A run.
    out
        The list to write.
    poses
        Append the learned angles (degrees) and origins (Angstrom) as columns; none that is there is touched.
    complement
        Write all other rows of the original list instead.
    """
    from napari_disentangle.export import export_selection
    from napari_disentangle.run import Run

    opened = Run.open(run)
    record = export_selection(
        opened, opened.selection(selection), out, poses=poses, complement=complement, overwrite=overwrite
    )
    print(f"{record.count} of {record.of} rows -> {record.particles}")
    if record.optimisation_set is not None:
        print(record.optimisation_set)


def evaluate(
    run: Path,
    /,
    *,
    truth: Path,
    symmetry: Annotated[tuple[str, ...], Parameter(metavar="IDENTITY=GROUP:AXIS")] = (),
    maps: Path | None = None,
    json: Json = False,
) -> None:
    """Score a run against a table of what its particles are, beside chance and the invariants, which train nothing.

    Parameters
    ----------
    run
        A trained run.
    truth
        The truth.csv that simulate writes, or one like it.
    symmetry
        Of an identity, such as groel-groes=C7:z; may be given again and again.
    maps
        Folder of density maps named IDENTITY_STATE.mrc: compare the run's averages with them too, beside the unaligned
        average and the one at the true poses.
    """
    from napari_disentangle.metrics import read_truth
    from napari_disentangle.run import Run
    from napari_disentangle.stages import evaluate_averages, evaluate_run

    pairs = [word.partition("=") for word in symmetry]
    for name, sign, group in pairs:
        if not (name and sign and group):
            raise InputError(f'--symmetry "{name}{sign}{group}" is not IDENTITY=GROUP; write, for example, groel=C7:z.')
    opened, table = Run.open(run), read_truth(truth)
    scores = evaluate_run(opened, table, symmetry={name: group for name, _, group in pairs})
    averages = [] if maps is None else evaluate_averages(opened, table, maps)
    if json:
        told = scores.model_dump(mode="json") | {"averages": [one.model_dump(mode="json") for one in averages]}
        progress.print_json(told)
        return
    print(scores)
    if averages:
        print("\nAverages: correlation with the map of the molecule, best over one rigid motion, hand kept")
    for one in averages:
        print(one)
