"""The aligned average of a selection: a global search for poses, local refinement, half maps and FSC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_disentangle.averaging.anchor import Anchor
from napari_disentangle.averaging.boxes import load_boxes, read_chunks
from napari_disentangle.averaging.fsc import fsc, resolution
from napari_disentangle.averaging.halves import split_halves
from napari_disentangle.averaging.points import sphere
from napari_disentangle.averaging.pose_search import COARSE, FINER, PoseSearch
from napari_disentangle.averaging.refine import Poses, half_averages, references, refine_round, rejoined
from napari_disentangle.averaging.wedges import wedges_of
from napari_disentangle.errors import InputError
from napari_disentangle.particles import CONE, ParticleSet, Pose

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_disentangle.particles import PoseMode

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Map = NDArray[np.float32]
    Report = Callable[[str, float], None]

LABEL = "halves of one model, aligned together"
RANDOM_STARTS = 3
FINE = 40
"""Most voxels per axis that poses are refined at."""
WIDEST, NARROWEST = 10.0, 2.0
"""Degrees of a step of the local refinement, in the first and in the last round."""


@dataclass(frozen=True)
class Average:
    """A map of some particles, and how far to believe it."""

    volume: Map
    """(n, n, n), the mean of the aligned boxes, the wedge accounted for; not filtered."""
    half1: Map
    """(n, n, n), of the first half of the particles."""
    half2: Map
    """(n, n, n), of the second."""
    frequency: Floats
    """(n // 2 + 1,), in 1/A."""
    fsc: Floats
    """(n // 2 + 1,), of the half maps in a soft sphere."""
    resolution_A: float | None
    """Where the FSC falls below 0.143, in Angstrom."""
    count: int
    ids: Ints
    """(count,), in the order of `pose`."""
    pose: Pose
    """(count,), refined."""
    halves: Ints
    """(count,), 1 or 2."""
    voxel_size: float
    """In Angstrom."""
    rounds: int
    """Of local refinement."""
    history: tuple[tuple[str, float], ...] = ()
    """Stage and score: mean log-likelihood in the search, mean correlation in the refinement."""
    label: str = LABEL
    """What the FSC is of: the selection, and where they were learned the poses, come from one model."""


def average(
    particles: ParticleSet,
    pose: Pose | None = None,
    *,
    diameter: float | None = None,
    max_shift: float | None = None,
    mode: PoseMode = "free",
    cone: float = CONE,
    rounds: int = 3,
    starts: int = RANDOM_STARTS,
    seed: int = 0,
    device: str = "cpu",
    progress: Report | None = None,
) -> Average:
    """Align particles to their own average and average them.

    *free*: expectation-maximisation over all rotations (`search`) from `pose`, if any, and from random poses; the
    likeliest is kept. *local*: the same within `cone` of `pose`. *prior*: of `pose`, only the axis z of the particle is
    heeded, from which it may lean by `cone`, and all turns about it are tried. Then `rounds` of local refinement
    (`refine`), each half to its own average. *fixed*: `pose` as it is.

    The halves share a reference until the coarse search is over (diameter / 3.75) and are apart from then on. They
    still come from one selection by one model: the FSC says how well this average repeats, not that it is right.

    Parameters
    ----------
    particles : ParticleSet
        The selection, with volumes.
    pose : Pose, optional
        Where to start: learned or imported; rows as in `particles`.
    diameter : float, optional
        Of the particle, in A; default box / 1.6.
    max_shift : float, optional
        In A; default 0.25 diameter (free), 0.1 diameter from `pose` (local, prior).
    mode : {"free", "local", "prior", "fixed"}
    cone : float
        In degrees, of *local* and *prior*.
    rounds : int
        Of local refinement.
    starts : int
        Random starts of a free search, besides `pose`, and of *prior*; at least one without `pose`.
    seed : int
        The same seed and thread count give the same bits on a CPU.
    device : str
        For torch.
    progress : callable, optional
        Told (stage, fraction done).

    Returns
    -------
    Average

    Raises
    ------
    InputError
        No volumes, images instead of volumes, no voxel size, fewer than two particles, or no pose where one is needed.
    """
    voxel, n = _checked(particles, pose, mode)
    diameter = n * voxel / 1.6 if diameter is None else min(diameter, n * voxel)
    max_shift = _reach(diameter, mode) if max_shift is None else max_shift
    tell: Report = progress or (lambda _stage, _done: None)
    halves = split_halves(particles, distance=diameter / 2, seed=seed)
    half = halves == 2
    wedges = wedges_of(particles)
    given = None if pose is None else Poses(pose.rotations, pose.offsets / voxel)
    radius, reach = 0.55 * diameter / voxel, max_shift / voxel
    history: list[tuple[str, float]] = []
    if mode == "fixed":
        assert given is not None
        poses = given
    else:
        search = PoseSearch(particles, half, wedges, radius, reach, device, tell, history)
        anchor = anchor_of(given, mode, cone)
        given = None if mode == "prior" else given
        poses = search.run(given, anchor, starts=starts if given is not None else max(1, starts), seed=seed)
        poses = _refined(search, poses, anchor, rounds)
    tell("averaging", 0.95)
    half1, half2, both = half_averages(particles, half, wedges, poses, size=n, raw=True, device=device)
    frequency, agreement = fsc(half1, half2, voxel, sphere(n, radius, soft=4.0))
    tell("done", 1.0)
    return Average(
        volume=both,
        half1=half1,
        half2=half2,
        frequency=frequency,
        fsc=agreement,
        resolution_A=resolution(frequency, agreement),
        count=len(particles),
        ids=particles.ids,
        pose=Pose(poses.rotations, poses.shifts * voxel),
        halves=halves,
        voxel_size=voxel,
        rounds=0 if mode == "fixed" else rounds,
        history=tuple(history),
    )


def pose_to(
    particles: ParticleSet,
    reference: Map,
    pose: Pose | None = None,
    *,
    mode: Literal["free", "local", "prior"] = "free",
    cone: float = CONE,
    diameter: float | None = None,
    max_shift: float | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Pose:
    """Search the pose of each particle against a reference that is given.

    Parameters
    ----------
    particles : ParticleSet
        With volumes.
    reference : (n, n, n)
        Of the size and in the units of the boxes, as `Average.volume`.
    pose : Pose, optional
        To stay near, for *local* and *prior*.
    mode, cone, diameter, max_shift, seed, device
        As `average`.

    Returns
    -------
    Pose
        (len(particles),); to about the 15 degrees of the grid, within the cone.
    """
    import torch

    voxel, n = _checked(particles, pose, mode, fewest=1)
    diameter = n * voxel / 1.6 if diameter is None else min(diameter, n * voxel)
    max_shift = _reach(diameter, mode) if max_shift is None else max_shift
    half = np.zeros(len(particles), np.bool_)

    def silent(stage: str, done: float) -> None: ...

    search = PoseSearch(
        particles, half, wedges_of(particles), 0.55 * diameter / voxel, max_shift / voxel, device, silent, []
    )
    sample = next(read_chunks(particles, np.arange(min(len(particles), 100))))[1]
    scaled = torch.as_tensor(reference * sphere(n, search.radius, soft=2.0) / sample.std((1, 2, 3)).mean()).to(device)
    anchor = anchor_of(None if pose is None else Poses(pose.rotations, pose.offsets / voxel), mode, cone)
    found = anchor or Poses(np.tile(np.eye(3), (len(particles), 1, 1)), np.zeros((len(particles), 3)))
    for resolving, beside in ((COARSE, False), (FINER, True)):
        found = search.pose_each(scaled, found.shifts, resolving, anchor, np.random.default_rng(seed), beside=beside)
    found = search.within(found, anchor)
    return Pose(found.rotations, found.shifts * voxel)


def _checked(particles: ParticleSet, pose: Pose | None, mode: str, fewest: int = 2) -> tuple[float, int]:
    """Return the voxel size and the box of particles that can be averaged."""
    if particles.volumes is None:
        raise InputError(f"{particles.path} has no boxes to average; extract them first.")
    if len(particles.volumes.shape) != 4 or len(set(particles.volumes.shape[1:])) != 1:
        raise InputError(
            f"{particles.path} holds boxes of shape {particles.volumes.shape[1:]}; averages need cubic volumes."
        )
    if particles.voxel_size is None:
        raise InputError(f"{particles.path} does not say its voxel size; give it in Angstrom.")
    if len(particles) < fewest:
        raise InputError(
            f"An average needs at least 2 particles; this selection of {particles.path} has {len(particles)}."
        )
    if mode not in ("free", "local", "prior", "fixed"):
        raise InputError(f'"{mode}" is not a way to align; choose free, local, prior or fixed.')
    if pose is None and mode != "free":
        raise InputError(
            f'Aligning with poses "{mode}" needs poses to start from, and {particles.path} has none; use "free".'
        )
    if pose is not None and len(pose.rotations) != len(particles):
        raise ValueError(f"{len(pose.rotations)} poses for {len(particles)} particles")
    return float(particles.voxel_size), int(particles.volumes.shape[-1])


def anchor_of(given: Poses | None, mode: PoseMode, cone: float) -> Anchor | None:
    """Return what a search in `mode` stays near; None where nothing holds it."""
    if given is None or mode not in ("local", "prior"):
        return None
    return Anchor(given.rotations, given.shifts, cone, any_rot=mode == "prior")


def _reach(diameter: float, mode: PoseMode) -> float:
    return diameter * (0.25 if mode == "free" else 0.1)


def _refined(search: PoseSearch, poses: Poses, anchor: Anchor | None, rounds: int) -> Poses:
    """Refine locally, the step of the angle halved each round."""
    size = min(search.box, FINE)
    sample = np.arange(len(search.particles))[:: max(1, len(search.particles) // 200)]
    noise = load_boxes(search.particles, sample, size, search.wedges, None, search.device).noise
    box = search.box
    common = (search.particles, search.half, search.wedges)
    for k in range(rounds):
        search.tell(f"refining, round {k + 1} of {rounds}", 0.6 + 0.35 * k / rounds)
        one, two, _ = half_averages(*common, poses, size=size, raw=False, device=search.device)
        targets = references(one, two, radius=search.radius * size / box, noise=noise)
        angle = WIDEST * (NARROWEST / WIDEST) ** (k / max(rounds - 1, 1))
        poses, score = refine_round(*common, poses, targets, angle=angle, max_shift=search.reach, anchor=anchor)
        search.history.append((f"refinement {k + 1}", score))
    if rounds:
        one, two, _ = half_averages(*common, poses, size=size, raw=False, device=search.device)
        # The halves' references were free to drift apart
        scaled = Poses(poses.rotations, poses.shifts * size / box)
        moved = rejoined(one, two, scaled, search.half, search.radius * size / box)
        moved = Poses(moved.rotations, moved.shifts * box / size)
        poses = moved if anchor is None else _kept_within(moved, poses, anchor, search.reach)
    return poses


def _kept_within(moved: Poses, poses: Poses, anchor: Anchor, reach: float) -> Poses:
    """Return `moved`, except where that would leave the cone or the shifts allowed around `anchor`."""
    fits = anchor.beyond(moved.rotations) <= anchor.cone
    fits &= np.linalg.norm(moved.shifts - anchor.shifts, axis=1) <= reach
    return Poses(
        np.where(fits[:, None, None], moved.rotations, poses.rotations),
        np.where(fits[:, None], moved.shifts, poses.shifts),
    )
