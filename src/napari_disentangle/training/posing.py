"""Poses by search: each group of like particles is aligned to its own average, over all rotations that it may have.

A network that regresses poses needs far more particles than a tomogram holds; a search against the emerging average
does not. The groups come from the content code, their averages are registered to one another where they are alike, so
that neighbouring groups share a canonical frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging import average, match_volume, pose_to
from napari_disentangle.averaging.align import anchor_of
from napari_disentangle.averaging.anchor import Anchor
from napari_disentangle.averaging.points import sphere
from napari_disentangle.averaging.refine import Poses
from napari_disentangle.clustering import cluster, suggest_count
from napari_disentangle.fourier import fourier_crop
from napari_disentangle.geometry import euler_to_matrix
from napari_disentangle.models.base import MOST_FAMILIES
from napari_disentangle.particles import Pose
from napari_disentangle.training.eigenvolumes import two_heaps
from napari_disentangle.training.inputs import known_pose, with_poses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_disentangle.averaging import Match
    from napari_disentangle.particles import ParticleSet
    from napari_disentangle.recipe import PoseSettings, Recipe
    from napari_disentangle.training.inputs import Geometry, Inputs

FEWEST = 20
"""Particles of a group below which it is not worth its own reference."""
MOST_GROUPS = 12
"""That a mixture makes; groups that are parted afterwards have more families to go to."""
ALIKE = 0.75
"""Correlation of two averages from which they are taken for the same molecule in another frame."""


@dataclass(frozen=True)
class FoundPoses:
    """What a search found."""

    pose: Pose
    """(n,)."""
    group: NDArray[np.int64]
    """(n,) the group each particle was aligned with."""
    family: NDArray[np.int64]
    """(n,) groups whose averages superpose share a family, and its canonical frame."""

    def save(self, path: Path) -> None:
        """Write, whole or not at all."""
        part = path.with_name(f".{path.stem}.part.npz")
        np.savez(
            part, schema_version=np.array(1), rotations=self.pose.rotations, offsets=self.pose.offsets, group=self.group,
            family=self.family,
        )  # fmt: skip
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> FoundPoses:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            group = stored["group"]
            family = stored.get("family", group)  # older runs kept no families
            return cls(Pose(stored["rotations"], stored["offsets"]), group, family)


def find_poses(
    inputs: Inputs, content: NDArray[np.float32], recipe: Recipe, *, device: str, progress: Callable[[str, float], None]
) -> FoundPoses:  # fmt: skip
    """Group particles by content and search the pose of each against its group's average.

    A group whose posed particles fall into two heaps that do not superpose is two, each searched anew; not looked for
    under a missing wedge, by which particles would differ most.

    Parameters
    ----------
    inputs : Inputs
    content : (n, c)
    recipe : Recipe
        Poses are searched near those of the list in mode "local", near its tilt and psi in mode "prior", and are those
        of the list in mode "fixed", where only groups and families are found.
    device : str
    progress : callable
        Told (what is done, fraction).

    Returns
    -------
    FoundPoses
    """
    particles, geometry = inputs.particles, inputs.geometry
    if not recipe.model.wedge:
        particles = particles.without_tilt_ranges()
    whole = particles.tilt_ranges() is None
    mode, reach = recipe.pose.mode, geometry.max_shift * geometry.edge
    known = known_pose(particles, mode)
    count = suggest_count(content, most=min(MOST_GROUPS, max(1, len(content) // (2 * FEWEST))))
    group = cluster(content, method="gmm", k=count, seed=recipe.training.seed)
    group = _without_small(group, content)
    rotations, offsets = np.zeros((len(content), 3, 3)), np.zeros((len(content), 3))
    averages: list[NDArray[np.float32]] = []
    families: list[int] = []
    family = np.zeros(len(content), np.int64)
    waiting = [np.flatnonzero(group == label) for label in np.unique(group)]
    while waiting:
        rows, done, count = waiting.pop(0), len(averages), len(averages) + len(waiting) + 1
        what = "average" if mode == "fixed" else "poses"
        name = f"{what} of group {done + 1} of {count} ({len(rows)} particles)"
        found = average(
            particles.subset(rows),
            None if known is None else known.subset(rows),
            diameter=recipe.pose.diameter,
            max_shift=reach,
            mode=mode,
            cone=recipe.pose.cone,
            rounds=1,
            starts=1,
            seed=recipe.training.seed,
            device=device,
            progress=lambda _, part, done=done, name=name, count=count: progress(name, (done + part) / count),
        )
        rotations[rows], offsets[rows] = found.pose.rotations, found.pose.offsets
        if whole and count < MOST_FAMILIES:
            posed = with_poses(inputs, Pose(rotations, offsets))
            first = two_heaps(posed, rows, ALIKE, seed=recipe.training.seed, device=device)
            if first is not None:
                waiting[:0] = [rows[first], rows[~first]]
                continue
        volume = fourier_crop(found.volume, geometry.fine)
        if mode == "fixed":
            turn, move, like = np.eye(3), np.zeros(3), _as_it_lies(volume, averages, geometry)
        else:
            volume, turn, move, like = _into_known_frame(volume, averages, geometry, recipe.pose, device)
        group[rows] = done
        averages.append(volume)
        families.append(done if like is None else families[like])
        family[rows] = families[-1]
        # x_own = turn x_shared + move, so A_own x_own + p = (A_own turn) x_shared + (A_own move + p)
        rotations[rows] = found.pose.rotations @ turn
        offsets[rows] = found.pose.offsets + found.pose.rotations @ move
    anchor = anchor_of(None if known is None else Poses(known.rotations, known.offsets), mode, recipe.pose.cone)
    if anchor is not None:  # a frame that is shared may not be quite that of the list
        held = anchor.held(Poses(rotations, offsets), reach)
        rotations, offsets = held.rotations, held.shifts
    return FoundPoses(Pose(rotations, offsets), group, family)


def poses_like(
    known: ParticleSet, known_content: NDArray[np.float32], found: FoundPoses, particles: ParticleSet,
    content: NDArray[np.float32], geometry: Geometry, recipe: Recipe, *, device: str,
) -> FoundPoses:  # fmt: skip
    """Search poses of new particles, each against the average of the group whose content is nearest.

    Parameters
    ----------
    known, known_content, found
        (n,) particles of the run, their content (n, c) and what the search found.
    particles, content
        (m,) new particles and their content (m, c).
    geometry, recipe, device
        As `find_poses`.

    Returns
    -------
    FoundPoses
        (m,), with the group and family that each was aligned with.
    """
    if not recipe.model.wedge:
        known, particles = known.without_tilt_ranges(), particles.without_tilt_ranges()
    mode = recipe.pose.mode
    given = known_pose(particles, mode)
    labels = np.unique(found.group)
    centres = np.stack([known_content[found.group == k].mean(0) for k in labels])
    nearest = np.linalg.norm(content[:, None] - centres, axis=2).argmin(1)
    rotations, offsets = np.empty((len(content), 3, 3)), np.empty((len(content), 3))
    for k in np.unique(nearest):
        members, rows = np.flatnonzero(found.group == labels[k]), np.flatnonzero(nearest == k)
        if mode == "fixed":
            assert given is not None  # a list without poses is refused when it is read
            rotations[rows], offsets[rows] = given.rotations[rows], given.offsets[rows]
            continue
        reference = average(
            known.subset(members),
            found.pose.subset(members),
            diameter=recipe.pose.diameter,
            mode="fixed",
            device=device,
        )
        pose = pose_to(
            particles.subset(rows), reference.volume, None if given is None else given.subset(rows), mode=mode,
            cone=recipe.pose.cone, diameter=recipe.pose.diameter,
            max_shift=geometry.max_shift * geometry.edge, seed=recipe.training.seed, device=device,
        )  # fmt: skip
        rotations[rows], offsets[rows] = pose.rotations, pose.offsets
    family = np.array([found.family[found.group == k][0] for k in labels])
    return FoundPoses(Pose(rotations, offsets), labels[nearest], family[nearest])


def _into_known_frame(
    volume: NDArray[np.float32], others: list[NDArray[np.float32]], geometry: Geometry, pose: PoseSettings, device: str
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], int | None]:
    """Move an average into the frame of the earlier one most like it, if any is; volumes (n, n, n) at the fine size.

    By any motion; with imported poses, or tilt and psi, only by one within `pose.cone` and twice the largest shift, by
    which either group may have drifted.

    Returns
    -------
    volume, rotation (3, 3), shift (3,) in A, number of the other or None
        The moved volume is the volume sampled at ``rotation x + shift``.
    """
    n, starts = geometry.fine, None
    frame = Anchor(np.eye(3)[None], np.zeros((1, 3)), pose.cone, any_rot=pose.mode == "prior")
    if pose.mode != "free":
        turns = np.arange(0.0, 360.0, 15.0 if frame.any_rot else 360.0)
        starts = euler_to_matrix(np.pad(turns[:, None], ((0, 0), (0, 2))))
    matches = [
        match_volume(volume, other, radius=geometry.sphere * n, starts=starts, device=device) for other in others
    ]

    def keeps(match: Match) -> bool:
        leans = frame.beyond(match.rotation[None])[0] > frame.cone
        return pose.mode == "free" or not (leans or np.linalg.norm(match.shift) > 2 * geometry.max_shift * n)

    like = _most_alike([match.correlation if keeps(match) else -1.0 for match in matches])
    if like is None:
        return volume, np.eye(3), np.zeros(3), None
    match = matches[like]
    return match.moved(volume), match.rotation, match.shift * geometry.edge / n, like


def _as_it_lies(volume: NDArray[np.float32], others: list[NDArray[np.float32]], geometry: Geometry) -> int | None:
    """Return which of the earlier averages is most like one where both are, if any is."""
    inside = sphere(geometry.fine, geometry.sphere * geometry.fine) > 0
    return _most_alike([float(np.corrcoef(volume[inside], other[inside])[0, 1]) for other in others])


def _most_alike(correlations: list[float]) -> int | None:
    best = max(range(len(correlations)), key=correlations.__getitem__, default=None)
    return best if best is not None and correlations[best] >= ALIKE else None


def _without_small(group: NDArray[np.int64], content: NDArray[np.float32]) -> NDArray[np.int64]:
    """Put groups that are too small to align with the nearest of the others."""
    labels, counts = np.unique(group, return_counts=True)
    large = labels[counts >= FEWEST]
    if not len(large):
        return np.zeros_like(group)
    centres = np.stack([content[group == k].mean(0) for k in large])
    result = group.copy()
    for k in np.setdiff1d(labels, large):
        rows = group == k
        nearest = np.linalg.norm(content[rows][:, None] - centres, axis=2).argmin(1)
        result[rows] = large[nearest]
    return result
