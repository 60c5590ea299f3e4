"""codes.csv: what a model says of each particle, for any other program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import matrix_to_euler
from napari_disentangle.io.atomic import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from napari_disentangle.models.base import Codes


POSE = ("rot", "tilt", "psi", "shift_x", "shift_y", "shift_z")


def write_codes(codes: Codes, out: Path, *, voxel_size: float | None, overwrite: bool = False) -> None:
    """Write a table with one row per particle, in the order of the original list.

    Columns: ``particle`` (row of the original list, from 0), ``content_0`` and so on, ``transform_0`` and so on and,
    where the model has poses, RELION's angles in degrees and the shift p in voxels of the input, xyz.

    Parameters
    ----------
    codes : Codes
    out : Path
    voxel_size : float or None
        Of the input, in Angstrom.
    overwrite : bool

    Raises
    ------
    InputError
        Poses without a voxel size, or an output that exists or cannot be written.
    """
    parts = {f"content_{k}": column for k, column in enumerate(codes.content.T)}
    parts |= {f"transform_{k}": column for k, column in enumerate(codes.transform.T)}
    if codes.pose is not None:
        if voxel_size is None:
            raise InputError(
                f"{out}: shifts are written in voxels, and the voxel size is not known; give --voxel-size."
            )
        pose = np.concatenate([matrix_to_euler(codes.pose.rotations), codes.pose.offsets / voxel_size], axis=1)
        parts |= dict(zip(POSE, pose.T, strict=True))
    order = np.argsort(codes.ids, kind="stable")
    values = np.stack([np.asarray(column, dtype=np.float64) for column in parts.values()], axis=1)[order]
    rows = [",".join([str(i), *(f"{v:.7g}" for v in row)]) for i, row in zip(codes.ids[order], values, strict=True)]
    write_text(out, "\n".join([",".join(["particle", *parts]), *rows]) + "\n", overwrite=overwrite)
