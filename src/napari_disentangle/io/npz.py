"""Images in NumPy's .npz, such as benchmarks and simulations leave."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.particles import ArrayVolumes, ParticleSet

if TYPE_CHECKING:
    from pathlib import Path

NAME = "images"
"""The array that is read, where a file has several."""


def read_images(path: Path, pixel_size: float | None = None) -> ParticleSet:
    """Read (n, y, x) or (n, y, x, 3) images, whose ids count from 0.

    Raises
    ------
    InputError
        The file is damaged, holds no such array, or several of which none is called "images".
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = [NAME] if NAME in stored.files else stored.files
            if len(names) != 1:
                raise InputError(
                    f'{path} holds {", ".join(names) or "nothing"}; call the array of images "{NAME}", (n, y, x) or (n, y, x, 3).'
                )
            data = stored[names[0]]
    except (OSError, EOFError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as .npz ({error}); it is damaged or of another kind.") from error
    if not (data.ndim == 3 or (data.ndim == 4 and data.shape[-1] == 3)) or data.dtype.kind not in "uif":
        raise InputError(
            f"{path}: its array {names[0]} is {data.dtype} of shape {data.shape}; give numbers of shape (n, y, x) or (n, y, x, 3)."
        )
    return ParticleSet(path=path, ids=np.arange(len(data)), volumes=ArrayVolumes(data), voxel_size=pixel_size)
