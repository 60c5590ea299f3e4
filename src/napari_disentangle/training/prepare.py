"""A run folder from particles and settings."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle import __version__
from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles
from napari_disentangle.io.folder import spare
from napari_disentangle.recipe import InputSettings, Recipe
from napari_disentangle.run import Run, sha256_of
from napari_disentangle.training.inputs import check_boxes, geometry_of, imported_pose, suited

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def prepare(
    particles: Path,
    run: Path,
    *,
    preset: str = "standard",
    settings: Iterable[str] = (),
    selection: str | None = None,
    reading: Mapping[str, Any] | None = None,
    invert: bool = False,
    overwrite: bool = False,
) -> Run:
    """Make a run folder that is ready to train.

    Parameters
    ----------
    particles : Path
        A particle list with boxes, a stack, a folder of `extract`; or, with `selection`, another run.
    run : Path
        The folder to make.
    preset : str
        See `Recipe.preset`.
    settings : iterable of str
        ``section.key=value``, over the preset; what neither says is `suited` to the particles.
    selection : str, optional
        Train only on this selection of the run `particles`.
    reading : mapping, optional
        Keywords of `read_particles`.
    invert : bool
        Protein is dark in the boxes. A selection of another run is read as that run reads it.
    overwrite : bool
        Replace an earlier run.

    Raises
    ------
    InputError
        Whatever is wrong with the files, the settings or the place; nothing is written then.
    """
    settings = list(settings)
    recipe = Recipe.chosen(preset, settings)
    given = dict(reading or {})
    if selection is not None:
        source = Run.open(particles)
        everything = source.particles()
        wanted = source.selection(selection)
        try:
            chosen = everything.subset(everything.rows_of(wanted.ids))
        except KeyError as error:
            raise InputError(
                f"{particles}: selection {selection} has particles that this run does not; choose another."
            ) from error
        inputs = source.recipe.input.model_copy(update={"selection": f"{particles.absolute()}: {selection}"})
    else:
        chosen = read_particles(particles, **given)
        inputs = InputSettings(
            particles=str(particles.absolute()),
            sha256=sha256_of(chosen.text),
            invert=invert,
            **{key: _plain(value) for key, value in given.items() if value is not None},
        )
    spare(run, [particles, *chosen.files()])
    recipe = suited(recipe, chosen, settings)
    imported_pose(chosen, recipe, geometry_of(chosen, recipe))
    check_boxes(chosen)
    import torch

    versions = {
        "napari-disentangle": __version__, "torch": str(torch.__version__), "numpy": np.__version__, "python": platform.python_version()
    }  # fmt: skip
    return Run.create(
        run, recipe.model_copy(update={"input": inputs, "versions": versions}), chosen, overwrite=overwrite
    )


def _plain(value: object) -> Any:
    return str(value.absolute()) if isinstance(value, Path) else value
