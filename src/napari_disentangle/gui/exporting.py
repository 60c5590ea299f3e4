"""Write what the export dialog asks for, and say with counts what was written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.export import export_selection, read_average
from napari_disentangle.export.subset import pose_columns
from napari_disentangle.io.atomic import check_new_file
from napari_disentangle.io.folder import check_new_folder, new_folder, spare

if TYPE_CHECKING:
    from pathlib import Path

    from napari_disentangle.export import AverageRecord
    from napari_disentangle.run import Run
    from napari_disentangle.selection import Selection


def write_export(
    run: Run, selection: Selection, out: Path, *, poses: bool, complement: bool, maps: bool, overwrite: bool
) -> str:
    """Write a list, on request its complement and the maps of its average, and return what was written, in words.

    Parameters
    ----------
    run : Run
    selection : Selection
    out : Path
        The list; the complement is ``OUT_rest`` with the same ending, maps go into the folder ``OUT_maps``.
    poses : bool
        Append the learned poses.
    complement : bool
        Write the rest of the original list too.
    maps : bool
        Copy average, half maps, decoded volume and FSC.
    overwrite : bool
        Replace files that are there.

    Raises
    ------
    InputError
        Something is in the way or cannot be written; what is refused is refused before anything is written.
    """
    rest, folder = out.with_name(f"{out.stem}_rest{out.suffix}"), out.with_name(f"{out.stem}_maps")
    kept, particles = run.average_folder(selection.name), run.particles()
    for path in (out, *((rest,) if complement else ())):
        for beside in (path, path.with_suffix(".json"), path.with_name(f"{path.stem}_optimisation_set.star")):
            check_new_file(beside, overwrite=overwrite)
            spare(beside, particles.files())
    if maps:
        check_new_folder(folder, marker="average.json", overwrite=overwrite)
    if maps and not ((kept / "average.json").is_file() and is_of(read_average(kept).record, selection)):
        raise InputError(
            f"{run.path} has no average of these {len(selection)} particles; average them first, or export without maps."
        )
    if poses:
        pose_columns(particles, run.codes(), selection.ids)
    # The rest first: it is refused where nothing is left.
    other = export_selection(run, selection, rest, complement=True, overwrite=overwrite) if complement else None
    record = export_selection(run, selection, out, poses=poses, overwrite=overwrite)
    words = [f"{record.count} of {record.of} particles of {record.original or run.path} -> {record.particles}"]
    if record.optimisation_set is not None:
        words.append(f"optimisation set {record.optimisation_set.name}")
    if other is not None:
        words.append(f"the other {other.count} -> {rest.name}")
    if maps:
        with new_folder(folder, marker="average.json", overwrite=overwrite) as part:
            shutil.copytree(kept, part, dirs_exist_ok=True)
        words.append(f"maps -> {folder.name}/")
    return "; ".join(words) + "."


def is_of(record: AverageRecord, selection: Selection) -> bool:
    """Return whether an average is of these very particles."""
    return np.array_equal(np.sort(np.array(record.ids, np.int64)), selection.ids)
