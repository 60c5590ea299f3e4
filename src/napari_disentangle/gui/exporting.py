"""Write what the export dialog asks for, and say with counts what was written."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from napari_disentangle.errors import InputError
from napari_disentangle.export import export_selection
from napari_disentangle.io.atomic import check_new_file
from napari_disentangle.io.folder import new_folder

if TYPE_CHECKING:
    from pathlib import Path

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
    kept = run.average_folder(selection.name)
    for path in (out, *((rest,) if complement else ())):
        check_new_file(path, overwrite=overwrite)
    if maps and not (kept / "average.json").is_file():
        raise InputError(
            f"{run.path} has no average of {selection.name} yet; average it first, or export without maps."
        )
    record = export_selection(run, selection, out, poses=poses, overwrite=overwrite)
    words = [f"{record.count} of {record.of} particles of {record.original or run.path} -> {record.particles}"]
    if record.optimisation_set is not None:
        words.append(f"optimisation set {record.optimisation_set.name}")
    if complement:
        other = export_selection(run, selection, rest, poses=False, complement=True, overwrite=overwrite)
        words.append(f"the other {other.count} -> {rest.name}")
    if maps:
        with new_folder(folder, marker="average.json", overwrite=overwrite) as part:
            shutil.copytree(kept, part, dirs_exist_ok=True)
        words.append(f"maps -> {folder.name}/")
    return "; ".join(words) + "."
