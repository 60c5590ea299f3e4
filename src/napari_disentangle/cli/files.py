"""Commands that turn files into files: info and extract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from napari_disentangle.cli import progress
from napari_disentangle.cli.arguments import AS_FILES_SAY, Json, Overwrite, Reading, Seed


def info(
    file: Path,
    /,
    *more: Path,
    reading: Reading = AS_FILES_SAY,
    json: Json = False,
) -> None:
    """Say what was understood of a file.

    Parameters
    ----------
    file
        A particle list, an optimisation set, a stack, a tomogram, a map, or a folder that extract wrote.
    more
        More of them.
    """
    from napari_disentangle import io

    found = [io.describe(path, **reading.keywords()) for path in (file, *more)]
    if json:
        progress.print_json({"schema_version": 1, "files": [one.model_dump(mode="json") for one in found]})
    else:
        print("\n\n".join(str(one) for one in found))


def extract(
    particles: Path,
    out: Path,
    /,
    *,
    box: Annotated[int, Parameter(validator=validators.Number(gte=2))],
    bin: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 1.0,
    reading: Reading = AS_FILES_SAY,
    invert: bool = False,
    normalise: Annotated[bool, Parameter(negative="--no-normalise")] = True,
    edge: Literal["refuse", "skip", "pad"] = "refuse",
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Cut boxes around the particles of one or several tomograms.

    Parameters
    ----------
    particles
        A particle list with positions, or an optimisation set.
    out
        Folder to write: particles.mrcs, particles.star, and the original list unchanged.
    box
        Edge of the boxes, in voxels after binning.
    bin
        How many times coarser than the tomogram; may be fractional.
    invert
        Turn the contrast over, for tomograms in which protein is dark.
    normalise
        Scale each tomogram by the mean and the spread of its background boxes.
    edge
        What to do with boxes that reach over the tomogram's edge: refuse them all, skip those particles, or pad with
        the background's mean.
    """
    from napari_disentangle import io
    from napari_disentangle.io.extract import extract as cut

    found = io.read_particles(particles, **reading.keywords())
    with progress.bar("boxes") as advance:
        record = cut(
            found,
            out,
            box=box,
            bin=bin,
            invert=invert,
            edge=edge,
            normalise=normalise,
            seed=seed,
            overwrite=overwrite,
            progress=advance,
        )
    progress.tell(tuple(dict.fromkeys((*found.notes, *record.notes))))
    print(f"{len(record.ids)} boxes of {box} voxels at {record.voxel_size:g} A -> {out}")
