"""ParticleSet to batches: boxes at the sizes a model trains on, scaled per tomogram, with their invariants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.fourier import fourier_crop
from napari_disentangle.invariants import ring_power, shell_power, without_tomogram
from napari_disentangle.io import require_boxes
from napari_disentangle.models import model_info
from napari_disentangle.particles import dimensions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from napari_disentangle.models.base import Batch
    from napari_disentangle.particles import ParticleSet, Pose, PoseMode
    from napari_disentangle.recipe import Recipe

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FEWEST = 8
"""Particles below which nothing can be learned; pixels below which there is nothing to see."""
DEFAULT_BOX = 1.6
"""Box over particle diameter, where nobody gave the diameter."""
SPHERE = 1.1
"""Diameter of the soft sphere over that of the particle."""
_VOXELS_AT_ONCE = 2**23


@dataclass(frozen=True)
class Geometry:
    """Sizes that follow from the boxes and the recipe."""

    box: int
    """Voxels per edge of the boxes on disk."""
    coarse: int
    fine: int
    """Voxels per edge of the two stages; the same for images."""
    voxel_size: float | None
    """Of the boxes on disk, in A; only images may have none."""
    sphere: float
    """Radius of the soft sphere, as a fraction of the box's edge."""
    max_shift: float
    """Largest shift per axis, as a fraction of the box's edge."""
    dims: Literal[2, 3] = 3
    """2 for images, 3 for volumes."""
    channels: int = 1
    """3 for images in colour."""

    @property
    def edge(self) -> float:
        """Edge of the box, in A; of images whose pixels have no size, in pixels."""
        return self.box * (self.voxel_size or 1.0)


def geometry_of(particles: ParticleSet, recipe: Recipe) -> Geometry:
    """Return the sizes that training will use.

    Raises
    ------
    InputError
        No boxes, no voxel size, images instead of volumes, settings that these particles have nothing for, boxes that
        are not cubic or too small, or a diameter larger than the box.
    """
    volumes = require_boxes(particles)
    info = model_info(recipe.model.name)
    dims = dimensions(volumes.shape)
    if dims not in info.dimensions:
        takes = " or ".join("2D images" if k == 2 else "3D boxes" for k in info.dimensions)
        raise InputError(
            f"{particles.path} holds {'2D images' if dims == 2 else '3D boxes'}; {recipe.model.name} trains on {takes}."
        )
    _refuse_unfit(particles, recipe, dims, colour=dims == 2 and len(volumes.shape) == 4)
    if dims == 2:
        return _geometry_of_images(particles, recipe, volumes.shape)
    assert particles.voxel_size is not None
    if len(set(volumes.shape[1:])) != 1:
        raise InputError(f"{particles.path}: its boxes are {volumes.shape[1:]} voxels, not cubes; extract cubes.")
    box = volumes.shape[1]
    coarse = recipe.training.coarse_size
    if box < coarse:
        raise InputError(
            f"{particles.path}: boxes of {box} voxels are smaller than the {coarse} that training needs; extract larger ones, or give "
            f"--set training.coarse_size={max(8, box // 8 * 8)}."
        )
    fine = max(coarse, min(box, recipe.training.fine_size) // 8 * 8)
    edge = box * particles.voxel_size
    diameter = recipe.pose.diameter or edge / DEFAULT_BOX
    if diameter > edge:
        raise InputError(
            f"{particles.path}: a particle of {diameter:g} A does not fit into its box of {edge:g} A; correct --diameter or extract "
            "larger boxes."
        )
    of_diameter = recipe.pose.max_shift
    if of_diameter is None:
        of_diameter = 0.25 if recipe.pose.mode == "free" else 0.1
    return Geometry(
        box=box, coarse=coarse, fine=fine, voxel_size=particles.voxel_size,
        sphere=min(SPHERE * diameter / 2 / edge, 0.5), max_shift=min(of_diameter * diameter / edge, 0.5),
    )  # fmt: skip


def _refuse_unfit(particles: ParticleSet, recipe: Recipe, dims: int, *, colour: bool) -> None:
    """Refuse a way to change or to move particles that these do not have."""
    model, info = recipe.model, model_info(recipe.model.name)
    if info.heeds("model.augmentation"):
        kind = model.augmentation
        if dims == 3 and kind != "rotation":
            raise InputError(
                f'{particles.path} holds 3D boxes, which are augmented by rotation; "{kind}" is for images: leave model.augmentation out.'
            )
        if kind in ("saturation", "hue") and not colour:
            raise InputError(
                f"{particles.path} holds grey images, which have no {kind} to change; choose another model.augmentation."
            )
    if info.heeds("model.moves") and model.moves is not None:
        if dims == 3:
            raise InputError(
                f"{particles.path} holds 3D boxes, which are turned and shifted as pose.mode says; leave model.moves out."
            )
        strange = [move for move in model.moves if move not in info.moves]
        if strange:
            raise InputError(f"{info.title} knows no {strange[0]}; choose model.moves of {', '.join(info.moves)}.")


def _geometry_of_images(particles: ParticleSet, recipe: Recipe, shape: tuple[int, ...]) -> Geometry:
    """Return the sizes of images, which are trained at one size; a disc masks them where a diameter was given."""
    box = shape[1]
    if len(set(shape[1:3])) != 1:
        raise InputError(f"{particles.path}: its images are {shape[1]} x {shape[2]} pixels; give square images.")
    size = min(box, recipe.training.fine_size) // 2 * 2
    if size < FEWEST:
        raise InputError(f"{particles.path}: images of {box} pixels are smaller than {FEWEST}; give larger ones.")
    sphere, of_edge = 0.0, 1 / DEFAULT_BOX
    if recipe.pose.diameter is not None:
        if particles.voxel_size is None:
            raise InputError(
                f"{particles.path} does not say its pixel size, so --diameter means nothing; give --voxel-size too."
            )
        of_edge = min(recipe.pose.diameter / (box * particles.voxel_size), 1.0)
        sphere = min(SPHERE * of_edge / 2, 0.5)
    of_diameter = 0.25 if recipe.pose.max_shift is None else recipe.pose.max_shift
    return Geometry(
        box=box, coarse=size, fine=size, voxel_size=particles.voxel_size, sphere=sphere,
        max_shift=min(of_diameter * of_edge, 0.5), dims=2, channels=shape[3] if len(shape) == 4 else 1,
    )  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Everything a training or an encoding reads, and the batches made of it."""

    particles: ParticleSet
    geometry: Geometry
    coarse: NDArray[np.float32]
    """(n, c, c, c), standardised, in memory; (n, c, c) for images, (n, 3, c, c) in colour."""
    invariants: NDArray[np.float32]
    """(n, m) log shell powers of the box and of the box inside the soft sphere."""
    scale: NDArray[np.float32]
    """(n, 2) mean and standard deviation of the background that each particle's box was standardised by."""
    rotations: NDArray[np.float32]
    """(n, 3, 3) imported pose, or the identity."""
    shifts: NDArray[np.float32]
    """(n, 3) imported offset, as a fraction of the box's edge."""
    tilts: NDArray[np.float32] | None
    """(n, 2) in degrees."""
    frames: NDArray[np.float32] | None
    """(n, 3, 3) box to tomogram."""
    families: Ints | None = None
    """(n,) number of the canonical frame that each particle was put in after the coarse stage; None before."""

    def __len__(self) -> int:
        return len(self.coarse)

    def batch(self, rows: Ints, size: int, device: str) -> Batch:
        """Return the particles of `rows` at `size` voxels per edge, on a device."""
        import torch

        from napari_disentangle.models.base import Batch

        if size == self.geometry.coarse:
            volumes = self.coarse[rows]
        else:
            volumes = _cropped(self.particles, rows, size)
            mean, deviation = self.scale[rows].T[:, :, None, None, None]
            volumes = (volumes - mean) / deviation

        def tensor(values: NDArray[np.float32] | Ints | None) -> torch.Tensor | None:
            return None if values is None else torch.as_tensor(values[rows]).to(device)

        return Batch(
            volumes=torch.as_tensor(volumes).to(device),
            invariants=torch.as_tensor(self.invariants[rows]).to(device),
            rotations=torch.as_tensor(self.rotations[rows]).to(device),
            shifts=torch.as_tensor(self.shifts[rows]).to(device),
            tilts=tensor(self.tilts),
            frames=tensor(self.frames),
            families=tensor(self.families),
        )


def with_poses(inputs: Inputs, pose: Pose, families: Ints | None = None) -> Inputs:
    """Return inputs whose batches carry other poses than the imported ones, and families where they are known."""
    shifts = (pose.offsets / inputs.geometry.edge).astype(np.float32)
    return replace(inputs, rotations=pose.rotations.astype(np.float32), shifts=shifts, families=families)


def read_inputs(
    particles: ParticleSet, recipe: Recipe, *, scale: NDArray[np.float32] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Inputs:  # fmt: skip
    """Read all particles once, scale them and take their invariants.

    Boxes are standardised by the mean and standard deviation of the voxels outside the soft sphere, over all boxes of a
    tomogram: never each box by itself, which would make the molecule's size unreadable.

    Parameters
    ----------
    particles : ParticleSet
    recipe : Recipe
    scale : (n, 2), optional
        That mean and deviation of each particle, where they are known from more particles than these.
    progress : callable, optional
        Called with (particles read, of).

    Raises
    ------
    InputError
        As `geometry_of` and `imported_pose`; or too few particles; voxels that are NaN or boxes that are constant
        (which particles is said).
    """
    from napari_disentangle.models.nets import soft_sphere

    geometry = geometry_of(particles, recipe)
    check_few(particles)
    rotations, shifts = imported_pose(particles, recipe, geometry)
    if geometry.dims == 2:
        return _read_images(particles, geometry, rotations, shifts, scale, progress)
    ranges = particles.tilt_ranges() if recipe.model.wedge else None
    n, m = len(particles), geometry.fine
    sphere = soft_sphere(m, geometry.sphere * m, edge=3.0).numpy()
    outside = sphere == 0
    coarse = np.empty((n, *(geometry.coarse,) * 3), np.float32)
    powers: list[Floats] = []
    background = np.empty((n, 2))
    step = max(1, _VOXELS_AT_ONCE // geometry.box**3)
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        volumes = _cropped(particles, rows, m)
        _refuse_broken(particles, rows, volumes)
        edge = volumes[:, outside] if outside.any() else volumes.reshape(len(rows), -1)
        background[rows] = np.stack([edge.mean(1, dtype=np.float64), edge.var(1, dtype=np.float64)], 1)
        coarse[rows] = volumes if geometry.coarse == m else fourier_crop(volumes, geometry.coarse)
        level = background[rows, 0].astype(np.float32)[:, None, None, None]
        tilts = None if ranges is None else ranges[rows]
        frames = None if particles.frames is None else particles.frames[rows]
        powers.append(
            np.concatenate(
                [shell_power(v, tilt_ranges=tilts, frames=frames) for v in (volumes, (volumes - level) * sphere)], 1
            )
        )
        if progress is not None:
            progress(int(rows[-1]) + 1, n)
    exact = _scales(background, particles.tomogram) if scale is None else scale.astype(np.float64)
    coarse -= exact[:, 0, None, None, None]
    coarse /= exact[:, 1, None, None, None]
    features = np.concatenate(powers) - 2 * np.log(exact[:, 1:])
    return Inputs(
        particles=particles,
        geometry=geometry,
        coarse=coarse,
        invariants=without_tomogram(features, particles.tomogram).astype(np.float32),
        scale=exact.astype(np.float32),
        rotations=rotations,
        shifts=shifts,
        tilts=None if ranges is None else ranges.astype(np.float32),
        frames=None if ranges is None or particles.frames is None else particles.frames.astype(np.float32),
    )


def _read_images(
    particles: ParticleSet, geometry: Geometry, rotations: NDArray[np.float32], shifts: NDArray[np.float32],
    scale: NDArray[np.float32] | None, progress: Callable[[int, int], None] | None,
) -> Inputs:  # fmt: skip
    """Read all images once; they are standardised together, by the mean of their edges and the deviation of all pixels.

    So the background is 0, which is what a move brings in from outside an image.
    """
    n, m = len(particles), geometry.coarse
    assert particles.volumes is not None
    images = np.empty((n, *((geometry.channels,) if geometry.channels > 1 else ()), m, m), np.float32)
    step = max(1, _VOXELS_AT_ONCE // (geometry.box**2 * geometry.channels))
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        found = particles.volumes.read(rows)
        _refuse_broken(particles, rows, found)
        if geometry.channels > 1:
            found = np.moveaxis(found, -1, 1)
        images[rows] = found if found.shape[-1] == m else fourier_crop(found, m, dims=2)
        if progress is not None:
            progress(int(rows[-1]) + 1, n)
    inner = np.zeros((m, m), np.bool_)
    inner[1:-1, 1:-1] = True
    mean, deviation = float(images[..., ~inner].mean(dtype=np.float64)), float(images.std(dtype=np.float64))
    if scale is not None:  # the same for all images
        mean, deviation = float(scale[0, 0]), float(scale[0, 1])
    images = (images - mean) / deviation
    grey = images if geometry.channels == 1 else images.mean(1)
    return Inputs(
        particles=particles,
        geometry=geometry,
        coarse=images,
        invariants=ring_power(grey).astype(np.float32),
        scale=np.tile(np.array([mean, deviation], np.float32), (n, 1)),
        rotations=rotations,
        shifts=shifts,
        tilts=None,
        frames=None,
    )


def check_boxes(particles: ParticleSet) -> None:
    """Read all boxes once and refuse what cannot be trained on, before anything is written.

    Raises
    ------
    InputError
        Too few particles, voxels that are NaN or infinite, or boxes that are constant (which particles is said).
    """
    assert particles.volumes is not None
    check_few(particles)
    step = max(1, _VOXELS_AT_ONCE // int(np.prod(particles.volumes.shape[1:])))
    for start in range(0, len(particles), step):
        rows = np.arange(start, min(start + step, len(particles)))
        _refuse_broken(particles, rows, particles.volumes.read(rows))


def check_few(particles: ParticleSet) -> None:
    """Raise InputError where there are too few particles to learn from."""
    if len(particles) < FEWEST:
        raise InputError(
            f"{particles.path} has {len(particles)} particles; training needs at least {FEWEST}: give a longer list."
        )


def _refuse_broken(particles: ParticleSet, rows: Ints, volumes: NDArray[np.float32]) -> None:
    flat = volumes.reshape(len(rows), -1)
    broken = ~np.isfinite(flat).all(1) | (flat == flat[:, :1]).all(1)
    if broken.any():
        listed = ", ".join(str(i) for i in particles.ids[rows[broken]][:5])
        several = broken.sum() > 1
        raise InputError(
            f"{particles.path}: {'particles' if several else 'particle'} {listed} (counted from 0) {'have' if several else 'has'} NaN or "
            f"infinite voxels, or {'are' if several else 'is'} constant; take {'them' if several else 'it'} out of the list and start again."
        )


def suited(recipe: Recipe, particles: ParticleSet, settings: Iterable[str]) -> Recipe:
    """Return a recipe as these particles ask for it, in what neither `settings` nor the preset say.

    Imported poses of volumes are kept locally. DualContrast learns grey images at twice the usual rate: at the usual
    one its transformation code stays unused, of turned digits and of projections, longer than anybody trains.
    """
    given = {setting.partition("=")[0].strip() for setting in settings}
    shape = () if particles.volumes is None else particles.volumes.shape
    changes: list[str] = []
    local = "local" in model_info(recipe.model.name).pose_modes and bool(shape) and dimensions(shape) == 3
    if particles.pose is not None and local and "pose.mode" not in given:
        changes.append("pose.mode=local")
    usual = type(recipe.training).model_fields["learning_rate"].default
    slow = recipe.training.learning_rate == usual and "training.learning_rate" not in given
    if recipe.model.name == "dualcontrast" and len(shape) == 3 and slow:
        changes.append(f"training.learning_rate={2 * usual:g}")
    return recipe.with_settings(changes)


def imported_pose(
    particles: ParticleSet, recipe: Recipe, geometry: Geometry
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rotations (n, 3, 3) and shifts (n, 3), fractions of the edge, that a model starts from.

    Raises
    ------
    InputError
        The pose mode is not one of the model's, or needs poses, priors or a search that there are not.
    """
    n, mode = len(particles), recipe.pose.mode
    info = model_info(recipe.model.name)
    modes = info.pose_modes
    if geometry.dims == 2 or not modes:
        modes = ("free",)
    if mode not in modes:
        of = recipe.model.name + (" of images" if geometry.dims == 2 else "")
        raise InputError(f"{of} does not take --pose {mode}; choose {' or '.join(modes)}.")
    if mode == "prior" and not (info.moves or recipe.pose.search):
        raise InputError(
            f"{info.name} finds rot by the search of poses, which --pose prior needs; set pose.search=true."
        )
    known = known_pose(particles, mode)
    if known is None:
        if mode != "free":
            lacks = "tilt and psi priors" if mode == "prior" else "poses"
            raise InputError(f"{particles.path} has no {lacks}, which --pose {mode} needs; choose --pose free.")
        return np.tile(np.eye(3, dtype=np.float32), (n, 1, 1)), np.zeros((n, 3), np.float32)
    return known.rotations.astype(np.float32), (known.offsets / geometry.edge).astype(np.float32)


def known_pose(particles: ParticleSet, mode: PoseMode) -> Pose | None:
    """Return what a pose mode takes from the list: its poses, or its priors with rot 0; None where it has none."""
    if mode == "prior":
        return particles.prior_pose
    return None if mode == "free" else particles.pose


def _scales(background: Floats, tomogram: Ints | None) -> Floats:
    """Return (n, 2) mean and standard deviation of each particle's tomogram; of all where it has fewer than 8."""

    def pooled(rows: NDArray[np.bool_]) -> tuple[float, float]:
        mean = background[rows, 0].mean()
        return mean, float(np.sqrt(background[rows, 1].mean() + background[rows, 0].var()))

    result = np.tile(pooled(np.ones(len(background), np.bool_)), (len(background), 1))
    if tomogram is not None:
        for k in np.unique(tomogram):
            rows = tomogram == k
            if rows.sum() >= FEWEST:
                result[rows] = pooled(rows)
    return result


def _cropped(particles: ParticleSet, rows: Ints, size: int) -> NDArray[np.float32]:
    assert particles.volumes is not None
    volumes = particles.volumes.read(rows)
    return volumes if volumes.shape[-1] == size else fourier_crop(volumes, size)
