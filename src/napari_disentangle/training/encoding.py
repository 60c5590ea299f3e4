"""A trained model at work: codes of particles, and volumes of codes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.models import build_model
from napari_disentangle.run.checkpoint import fingerprint, load_weights
from napari_disentangle.training.inputs import Geometry, Inputs, geometry_of, read_inputs
from napari_disentangle.training.posing import FoundPoses, poses_like

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from napari_disentangle.models.base import Codes
    from napari_disentangle.models.harmony import Harmony
    from napari_disentangle.particles import ParticleSet, Pose
    from napari_disentangle.recipe import Recipe
    from napari_disentangle.run import Run

_BATCH = 256


def model_for(recipe: Recipe, geometry: Geometry, features: int, particles: int) -> Harmony:
    """Return an untrained model of a recipe.

    Parameters
    ----------
    recipe : Recipe
    geometry : Geometry
    features : int
        Invariants per particle.
    particles : int
        In the set, for the default weight of the distances: particles / batch size.
    """
    training = recipe.training
    return build_model(
        recipe.model.name,
        dims=recipe.model.content_dims,
        coarse=geometry.coarse,
        fine=geometry.fine,
        sphere=geometry.sphere if recipe.model.soft_sphere else 0.0,
        features=features if recipe.model.invariants else 0,
        gamma=training.gamma or particles / min(training.batch_size, particles),
        summed=training.distance == "sum",
        mode=recipe.pose.mode,
        max_shift=geometry.max_shift,
        cone=recipe.pose.cone,
    )


def load_model(run: Run, *, device: str = "cpu") -> tuple[Harmony, Geometry, str]:
    """Return the trained model of a run, the sizes it works at and the fingerprint of its weights.

    Raises
    ------
    InputError
        Not trained yet.
    """
    checkpoint = run.checkpoint()
    if checkpoint is None:
        raise InputError(f"{run.path} has no model yet; train it first, with napari-disentangle train {run.path}.")
    from safetensors import safe_open

    particles = run.particles()
    geometry = geometry_of(particles, run.recipe)
    with safe_open(checkpoint / "model.safetensors", "pt") as stored:
        features = stored.get_slice("feature_mean").get_shape()[0]
    model = model_for(run.recipe, geometry, features, len(particles))
    load_weights(checkpoint, model)
    return model.to(device).eval(), geometry, fingerprint(checkpoint)


def codes_of(model: Harmony, inputs: Inputs, *, device: str, epoch: int, fingerprint: str) -> Codes:
    """Return the codes that a model gives to all particles of `inputs`."""
    from napari_disentangle.models.base import Codes
    from napari_disentangle.particles import Pose

    geometry = inputs.geometry
    content, rotations, shifts = [], [], []
    for start in range(0, len(inputs), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(inputs)))
        found = model.encode(inputs.batch(rows, geometry.coarse, device))
        content.append(found.content.cpu().numpy())
        rotations.append(found.rotations.cpu().numpy())
        shifts.append(found.shifts.cpu().numpy())
    rotation = np.concatenate(rotations).astype(np.float64)
    shift = np.concatenate(shifts).astype(np.float64)
    pose = Pose(rotation, shift * geometry.edge)
    return Codes(
        ids=inputs.particles.ids,
        content=np.concatenate(content),
        transform=_as_code(pose, geometry),
        pose=pose,
        epoch=epoch,
        fingerprint=fingerprint,
    )


def _as_code(pose: Pose, geometry: Geometry) -> NDArray[np.float32]:
    """Return (n, 12): the rotation matrix row by row, and the shift in voxels of the input."""
    return np.concatenate([pose.rotations.reshape(-1, 9), pose.offsets / geometry.voxel_size], 1).astype(np.float32)


def encode_particles(
    run: Run, particles: ParticleSet, *, device: str = "cpu", progress: Callable[[int, int], None] | None = None
) -> Codes:
    """Return the codes that a trained run gives to other particles.

    Where the run's poses were searched, those of the new particles are searched against the averages of its groups.

    Raises
    ------
    InputError
        Not trained yet, or boxes of another size or voxel size than the run's.
    """
    model, geometry, weights = load_model(run, device=device)
    theirs = geometry_of(particles, run.recipe)
    if not np.isclose(theirs.edge, geometry.edge, rtol=0.01) or theirs.fine != geometry.fine:
        raise InputError(
            f"{particles.path}: boxes of {theirs.edge:.0f} A ({theirs.box} voxels) do not fit {run.path}, which was "
            f"trained on {geometry.edge:.0f} A ({geometry.box} voxels); extract them in the same way."
        )
    inputs = read_inputs(particles, run.recipe, progress=progress)
    own = run.codes()
    codes = codes_of(model, inputs, device=device, epoch=own.epoch, fingerprint=weights)
    if not run.poses_path.is_file():
        return codes
    pose = poses_like(
        run.particles(), own.content, FoundPoses.load(run.poses_path), particles, codes.content, geometry, run.recipe,
        device=device,
    )  # fmt: skip
    return replace(codes, pose=pose, transform=_as_code(pose, geometry))


def decode(run: Run, content: ArrayLike, *, device: str = "cpu") -> tuple[NDArray[np.float32], float]:
    """Return the volumes of content codes: the model's idea of them, not data.

    Parameters
    ----------
    run : Run
    content : (b, c)

    Returns
    -------
    volumes : (b, n, n, n)
        In the model's canonical pose, in units of the background's standard deviation; 0 outside the soft sphere, where
        nothing was learned.
    voxel_size : float
        In A.
    """
    model, geometry, _ = load_model(run, device=device)
    return decode_with(model, geometry, run.recipe, content, device=device)


def decode_with(
    model: Harmony, geometry: Geometry, recipe: Recipe, content: ArrayLike, *, device: str = "cpu"
) -> tuple[NDArray[np.float32], float]:
    """Return the volumes of content codes by a model that `load_model` gave; as `decode`."""
    import torch

    size = geometry.fine if recipe.training.fine_epochs else geometry.coarse
    with torch.no_grad():
        volumes = model.decode(torch.as_tensor(np.asarray(content, dtype=np.float32)).to(device), size)
        volumes = volumes * model.get_buffer(f"sphere_{size}")
    return volumes.cpu().numpy(), geometry.edge / size
