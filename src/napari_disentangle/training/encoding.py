"""A trained model at work: codes of particles, and volumes of codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.models import build_model, model_info
from napari_disentangle.run.checkpoint import fingerprint, load_weights
from napari_disentangle.training.inputs import Geometry, Inputs, geometry_of, read_inputs, with_poses
from napari_disentangle.training.posing import FoundPoses, poses_like

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from napari_disentangle.models.base import Codes, Encoding
    from napari_disentangle.models.module import DisentanglingModel
    from napari_disentangle.particles import ParticleSet, Pose
    from napari_disentangle.recipe import Recipe
    from napari_disentangle.run import Run

_BATCH = 256


def model_for(recipe: Recipe, geometry: Geometry, features: int, particles: int) -> DisentanglingModel:
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
    from napari_disentangle.models.base import Spec

    training, settings = recipe.training, recipe.model
    asked = settings.invariants and model_info(settings.name).uses_invariants and geometry.dims == 3
    shown = asked or settings.name == "invariants"
    spec = Spec(
        dims=geometry.dims,
        coarse=geometry.coarse,
        fine=geometry.fine,
        channels=geometry.channels,
        sphere=geometry.sphere if settings.soft_sphere else 0.0,
        features=features if shown else 0,
        content=settings.content_dims,
        transform=settings.transform_dims,
        weight=training.gamma or particles / min(training.batch_size, particles),
        summed=training.distance == "sum",
        pose_mode=recipe.pose.mode,
        max_shift=geometry.max_shift,
        cone=recipe.pose.cone,
        moves=settings.moves,
        kl=settings.kl,
        cross_contrast=settings.cross_contrast,
        content_pairs=settings.content_pairs,
        transform_pairs=settings.transform_pairs,
        augmentation=settings.augmentation,
        turn=settings.turn,
        exchange=settings.exchange,
        independence=settings.independence,
        warp=settings.warp,
        decoder=settings.decoder,
    )
    return build_model(settings.name, spec)


def load_model(run: Run, *, device: str = "cpu") -> tuple[DisentanglingModel, Geometry, str]:
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
    if run.poses_path.is_file():
        model.keep_poses()
    return model.to(device).eval(), geometry, fingerprint(checkpoint)


def codes_of(model: DisentanglingModel, inputs: Inputs, *, device: str, epoch: int, fingerprint: str) -> Codes:
    """Return the codes that a model gives to all particles of `inputs`."""
    from napari_disentangle.models.base import Codes
    from napari_disentangle.particles import Pose

    geometry = inputs.geometry
    found: list[Encoding] = []
    for start in range(0, len(inputs), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(inputs)))
        found.append(model.encode(inputs.batch(rows, model.seen_size, device)))

    def joined(parts: list[Tensor]) -> NDArray[np.float32]:
        return np.concatenate([part.cpu().numpy() for part in parts])

    transform, pose = joined([one.transform for one in found]), None
    rotations = [one.rotations for one in found if one.rotations is not None]
    shifts = [one.shifts for one in found if one.shifts is not None]
    if rotations and shifts:
        pose = Pose(joined(rotations).astype(np.float64), joined(shifts).astype(np.float64) * geometry.edge)
        if model.explicit:
            transform = _as_code(pose, geometry)
    return Codes(
        ids=inputs.particles.ids,
        content=joined([one.content for one in found]),
        transform=transform,
        pose=pose,
        epoch=epoch,
        fingerprint=fingerprint,
    )


def _as_code(pose: Pose, geometry: Geometry) -> NDArray[np.float32]:
    """Return (n, 12): the rotation matrix row by row, and the shift in voxels of the input."""
    shifts = pose.offsets / geometry.edge * geometry.box
    return np.concatenate([pose.rotations.reshape(-1, 9), shifts], 1).astype(np.float32)


def encode_particles(
    run: Run, particles: ParticleSet, *, device: str = "cpu", progress: Callable[[int, int], None] | None = None
) -> Codes:
    """Return the codes that a trained run gives to other particles.

    Where the run's poses were searched, those of the new particles are searched against the averages of its groups, in
    its pose mode.

    Raises
    ------
    InputError
        Not trained yet, or boxes of another size or voxel size than the run's.
    """
    model, geometry, weights = load_model(run, device=device)
    theirs = geometry_of(particles, run.recipe)
    kinds = [(g.dims, g.channels, g.coarse, g.fine) for g in (theirs, geometry)]
    if not np.isclose(theirs.edge, geometry.edge, rtol=0.01) or kinds[0] != kinds[1]:
        if kinds[0][:2] != kinds[1][:2]:
            raise InputError(f"{particles.path} holds particles of another kind than those {run.path} was trained on.")
        raise InputError(
            f"{particles.path}: boxes of {theirs.edge:.0f} A ({theirs.box} voxels) do not fit {run.path}, which was "
            f"trained on {geometry.edge:.0f} A ({geometry.box} voxels); extract them in the same way."
        )
    inputs = read_inputs(particles, run.recipe, progress=progress)
    own = run.codes()
    codes = codes_of(model, inputs, device=device, epoch=own.epoch, fingerprint=weights)
    if not run.poses_path.is_file():
        return codes
    posed = poses_like(
        run.particles(), own.content, FoundPoses.load(run.poses_path), particles, codes.content, geometry, run.recipe,
        device=device,
    )  # fmt: skip
    inputs = with_poses(inputs, posed.pose, posed.family)
    return codes_of(model, inputs, device=device, epoch=own.epoch, fingerprint=weights)


def decode(
    run: Run, content: ArrayLike, transform: ArrayLike | None = None, *, device: str = "cpu"
) -> tuple[NDArray[np.float32], float]:
    """Return the volumes of codes: the model's idea of them, not data.

    Parameters
    ----------
    run : Run
    content : (b, c)
    transform : (b, t), optional
        Of a model whose transformation is a code; without it, the zero that its codes are spread about. An explicit
        transformation moves nothing here.

    Returns
    -------
    volumes : (b, n, n, n)
        In the model's canonical pose, in units of the background's standard deviation; 0 outside the soft sphere, where
        nothing was learned. Of images (b, n, n) or (b, 3, n, n).
    voxel_size : float
        In A; of images whose pixels have no size, in pixels of the input.

    Raises
    ------
    InputError
        Not trained yet, or a model that decodes nothing.
    """
    model, geometry, _ = load_model(run, device=device)
    return decode_with(model, geometry, run.recipe, content, transform, device=device)


def decode_with(
    model: DisentanglingModel, geometry: Geometry, recipe: Recipe, content: ArrayLike,
    transform: ArrayLike | None = None, *, device: str = "cpu",
) -> tuple[NDArray[np.float32], float]:  # fmt: skip
    """Return the volumes of codes by a model that `load_model` gave; as `decode`."""
    import torch

    if not model_info(recipe.model.name).decodes:
        raise InputError(
            f"{model_info(recipe.model.name).title} has no decoder, so it has no volume of a code to show."
        )
    size = geometry.fine if recipe.training.fine_epochs else geometry.coarse
    codes = np.asarray(content, dtype=np.float32)
    moves = np.zeros((len(codes), model.spec.transform)) if transform is None else transform
    with torch.no_grad():
        content_code, transform_code = (
            torch.as_tensor(np.asarray(x, dtype=np.float32)).to(device) for x in (codes, moves)
        )
        volumes = model.decode(content_code, transform_code, size) * model.sphere(size)
    return volumes.cpu().numpy(), geometry.edge / size


def placed_images(
    model: DisentanglingModel, content: NDArray[np.float32], transform: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the images of codes (b, c) and (b, t), turned, shifted and scaled as an explicit transformation says."""
    import torch

    from napari_disentangle.models.base import Batch, Encoding

    count, size = len(content), model.spec.coarse
    nowhere = torch.zeros(count, 3)
    blank = Batch(
        torch.zeros(count, *model.spec.shape(size)), torch.zeros(count, 0), torch.eye(3).repeat(count, 1, 1), nowhere
    )
    with torch.no_grad():
        code = Encoding(torch.as_tensor(content), torch.as_tensor(transform))
        return (model.reconstruct(blank, code) * model.sphere(size)).numpy()
