"""Commands that make a run and its codes: train, codes, models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from napari_disentangle.cli import progress
from napari_disentangle.cli.arguments import (
    AS_FILES_SAY,
    Angstrom,
    Device,
    Json,
    Overwrite,
    Reading,
    SelectionName,
)
from napari_disentangle.errors import InputError


def train(
    particles: Path,
    run: Path | None = None,
    /,
    *,
    model: str | None = None,
    diameter: Annotated[float | None, Angstrom] = None,
    pose: Literal["free", "local", "fixed", "prior"] | None = None,
    preset: str | None = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", metavar="KEY=VALUE")] = (),
    selection: SelectionName | None = None,
    device: Device = "auto",
    reading: Reading = AS_FILES_SAY,
    invert: bool = False,
    overwrite: Overwrite = False,
) -> None:
    """Train on particles and write a run folder; with a run folder alone, resume it or run its recipe.

    Parameters
    ----------
    particles
        A list of boxes, a stack, or a folder that extract wrote; with --selection, another run; alone, the run to
        resume.
    run
        The run folder to write.
    model
        One of those that "napari-disentangle models" lists; without it, harmony.
    diameter
        Of the particle, in Angstrom. It sets the soft mask, and how far from the box centre a particle may lie.
    pose
        Find poses freely, near the imported ones, keep those, or know tilt and psi only.
    preset
        quick, standard, thorough, or paper; without it, standard.
    settings
        Any other setting of the recipe, such as --set training.epochs=20; may be given again and again.
    selection
        Train on these particles of the run that is given first.
    invert
        Turn the contrast over, for boxes in which protein is dark.
    """
    from napari_disentangle import training
    from napari_disentangle.run import Run
    from napari_disentangle.training.device import choose_device

    choose_device(device)  # a device that is not there is told before a folder is made
    named = {"model.name": model, "pose.diameter": diameter, "pose.mode": pose}
    chosen = [f"{key}={value}" for key, value in named.items() if value is not None]
    if run is None:
        if chosen or settings or preset or selection or invert or overwrite or reading != AS_FILES_SAY:
            raise InputError(
                f"{particles} alone is resumed as its recipe says; to train otherwise, give the folder of a new run after it."
            )
        opened = Run.open(particles)
    else:
        opened = training.prepare(
            particles, run, preset=preset or "standard", settings=[*chosen, *settings], selection=selection,
            reading=reading.keywords(), invert=invert, overwrite=overwrite,
        )  # fmt: skip
    progress.tell(opened.particles().notes if run is not None else ())
    progress.follow(opened, training.fit(opened, device=device))
    print(opened.path)


def codes(
    run: Path,
    /,
    *,
    out: Path,
    particles: Path | None = None,
    device: Device = "auto",
    reading: Reading = AS_FILES_SAY,
    overwrite: Overwrite = False,
) -> None:
    """Write what the model says of each particle as a table, CSV.

    Parameters
    ----------
    run
        A trained run.
    out
        The table to write.
    particles
        Other particles than those of the run, in boxes of the same size.
    """
    from napari_disentangle import io, training
    from napari_disentangle.export import write_codes
    from napari_disentangle.io.folder import spare
    from napari_disentangle.run import Run
    from napari_disentangle.training.device import choose_device

    opened = Run.open(run)
    if particles is None:
        found, described = opened.codes(), opened.particles()
    else:
        described = io.read_particles(particles, **reading.keywords())
        with progress.bar("particles") as advance:
            found = training.encode_particles(opened, described, device=choose_device(device)[0], progress=advance)
    spare(out, described.files())
    write_codes(found, out, voxel_size=described.voxel_size, overwrite=overwrite)
    print(f"{len(found.ids)} particles -> {out}")


def models(*, json: Json = False) -> None:
    """List the models that can be trained."""
    from napari_disentangle.models import MODELS

    if json:
        progress.print_json({"schema_version": 1, "models": [asdict(model) for model in MODELS.values()]})
        return
    for model in MODELS.values():
        print(f"{model.name}  {model.title} ({model.citation})\n    {model.summary}")
