"""The search for every particle's pose: coarse rotations and shifts first, then finer ones beside the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging.anchor import shortened
from napari_disentangle.averaging.boxes import Boxes, load_boxes
from napari_disentangle.averaging.match import shift_grid
from napari_disentangle.averaging.refine import Poses
from napari_disentangle.averaging.search import Grid, expect, first_reference, maximise
from napari_disentangle.fourier import fourier_crop
from napari_disentangle.geometry import random_rotations, rotation_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.averaging.anchor import Anchor
    from napari_disentangle.averaging.wedges import Wedges
    from napari_disentangle.particles import ParticleSet

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Report = Callable[[str, float], None]

STARTERS = 150
"""Particles that choose between starts."""
MOST = 1000
"""Particles that the finer search, and one pass over all, hold at once."""
COARSE, FINER = 2.5, 3.75
"""The searches are low-passed to diameter / these."""
COVER = 11.0
"""Degrees from any rotation to the nearest of a grid of 15: so far is tried for a narrower cone, and pulled back."""
SPREADS = (128.0, 48.0, 16.0, 6.0, 2.0, 1.0)
"""How many poses a particle is spread over, round after round of the search."""


@dataclass(frozen=True)
class PoseSearch:
    """What every stage of one alignment needs; lengths in voxels of the input."""

    particles: ParticleSet
    half: NDArray[np.bool_]
    wedges: Wedges | None
    radius: float
    reach: float
    device: str
    tell: Report
    history: list[tuple[str, float]]

    @property
    def box(self) -> int:
        """Voxels per edge of the boxes on disk."""
        assert self.particles.volumes is not None
        return int(self.particles.volumes.shape[-1])

    def tensor(self, values: Floats | NDArray[np.bool_]) -> Tensor:
        """Return an array on the device, numbers as float32."""
        import torch

        tensor = torch.as_tensor(values).to(self.device)
        return tensor if tensor.dtype == torch.bool else tensor.float()

    def stage(self, resolving: float) -> tuple[float, int]:
        """Return the low-pass (in shells) that resolves diameter / `resolving`, and a box with room for it."""
        limit = resolving * self.box / (self.radius / 0.55)
        size = int(np.ceil(2.6 * limit / 2)) * 2
        return min(limit, self.box / 2), min(max(size, 8), self.box)

    def run(self, given: Poses | None, anchor: Anchor | None, *, starts: int, seed: int) -> Poses:
        """Search for every particle's pose, within the cone and `reach` of `anchor` if there is one."""
        rng = np.random.default_rng(seed)
        count = len(self.particles)
        around = np.zeros((count, 3)) if anchor is None else anchor.shifts
        rows = some_of(count, STARTERS, rng)
        boxes, limit = self._load(rows, COARSE, around)
        tried: list[tuple[str, Poses]] = []
        if given is not None:
            tried.append(("given poses", given.subset(rows)))
        anywhere = anchor is None or anchor.any_rot
        for k in range(starts if anywhere else 0):
            turned = random_rotations(len(rows), rng) if anchor is None else anchor.turned_about_z(rows, rng)
            tried.append((f"random poses {k + 1}", Poses(turned, around[rows])))
        found: list[tuple[float, Poses]] = []
        for k, (name, start) in enumerate(tried):
            self.tell(f"searching from {name}", 0.45 * k / len(tried))
            spreads = SPREADS if anywhere else SPREADS[2:]
            _, poses = self._anneal(boxes, rows, start, around[rows], anchor, limit, spreads, rng)
            # The coarse scores are nearly alike: the two ends of a molecule, say, differ only a little further out
            found.append(self._finer(rows, poses, anchor, rng))
            self.history.append((f"search from {name}", found[-1][0]))
        best = max(found, key=lambda pair: pair[0])[1]
        self.tell("posing all", 0.45)
        poses = self._pose_all(rows, best, around, COARSE, anchor, rng)
        rows = some_of(count, MOST, rng)
        score, best = self._finer(rows, poses.subset(rows), anchor, rng)
        self.history.append(("finer search", score))
        if len(rows) < count:
            best = self._pose_all(rows, best, poses.shifts, FINER, anchor, rng, beside=True)
        return self.within(best, anchor)

    def _load(self, rows: Ints, resolving: float, around: Floats) -> tuple[Boxes, float]:
        """Read boxes, moved by the shifts `around` (a row per particle of the selection); return their low-pass too."""
        limit, size = self.stage(resolving)
        return load_boxes(self.particles, rows, size, self.wedges, around[rows], self.device), limit

    def _finer(self, rows: Ints, poses: Poses, anchor: Anchor | None, rng: np.random.Generator) -> tuple[float, Poses]:
        """Go on from coarse poses of `rows`, whose shifts are known well enough to look only beside them."""
        limit, size = self.stage(FINER)
        boxes = load_boxes(self.particles, rows, size, self.wedges, poses.shifts, self.device)
        return self._anneal(boxes, rows, poses, poses.shifts, anchor, limit, (4.0, 1.0), rng, reach=boxes.step)

    def _anneal(
        self, boxes: Boxes, rows: Ints, start: Poses, around: Floats, anchor: Anchor | None, limit: float,
        spreads: tuple[float, ...], rng: np.random.Generator, *, reach: float | None = None,
    ) -> tuple[float, Poses]:  # fmt: skip
        """Round after round with a sharper posterior; return the mean score at the end and the poses of `rows`.

        `boxes` were moved by `around`, (n, 3); shifts are tried up to `reach` from there.
        """
        radius = self.radius / boxes.step
        reference = self._average(boxes, start, around, limit)
        half = self.tensor(self.half[rows])
        score, poses = -np.inf, start
        for spread in spreads:
            spacing = 20.0 if spread > 4 and anchor is None else 15.0
            grid, rotations, allowed = self._grid(boxes, rows, spacing, anchor, reach, rng)
            step = expect(boxes, reference, grid, limit=limit, radius=radius, half=half, spread=spread, allowed=allowed)
            reference = maximise(boxes, step, grid, limit=limit, radius=radius, half=half)
            score = float(step.score.mean())
            shifts = around + grid.shifts[step.shift.cpu().numpy()] * boxes.step
            poses = Poses(rotations[step.rotation.cpu().numpy()], shifts)
        return score, poses if anchor is not None else centred(poses)

    def _average(self, boxes: Boxes, poses: Poses, around: Floats, limit: float) -> Tensor:
        """Return the low-passed average of `boxes`, which were moved by `around`."""
        turns, moves = self.tensor(poses.rotations), self.tensor((poses.shifts - around) / boxes.step)
        return first_reference(boxes, turns, moves, limit=limit, radius=self.radius / boxes.step)

    def _grid(
        self,
        boxes: Boxes,
        rows: Ints,
        spacing: float,
        anchor: Anchor | None,
        reach: float | None,
        rng: np.random.Generator,
    ) -> tuple[Grid, Floats, Tensor | None]:
        """Return poses to try, turned at random so that no rotation is favoured, and which each particle may take."""
        rotations = random_rotations(1, rng)[0] @ rotation_grid(spacing)
        shifts = shift_grid((self.reach if reach is None else reach) / boxes.step, 1.0)
        allowed = None
        if anchor is not None:
            angle = anchor.beyond(np.broadcast_to(rotations, (len(rows), *rotations.shape)), rows)
            allowed = angle <= max(anchor.cone, COVER)
            allowed[np.arange(len(rows)), angle.argmin(1)] = True
        return Grid(self.tensor(rotations), shifts), rotations, None if allowed is None else self.tensor(allowed)

    def _pose_all(
        self, rows: Ints, poses: Poses, around: Floats, resolving: float, anchor: Anchor | None,
        rng: np.random.Generator, *, beside: bool = False,
    ) -> Poses:  # fmt: skip
        """Pose every particle against the average of `rows`, at shifts around `around`, or only just `beside` it."""
        boxes, limit = self._load(rows, resolving, around)
        reference = self._average(boxes, poses, around[rows], limit)
        found = self.pose_each(reference, around, resolving, anchor, rng, beside=beside)
        return centred(found) if anchor is None else found

    def pose_each(
        self, reference: Tensor, around: Floats, resolving: float, anchor: Anchor | None, rng: np.random.Generator,
        *, beside: bool,
    ) -> Poses:  # fmt: skip
        """Pose every particle against a reference of any size, low-passed here."""
        import torch

        limit, size = self.stage(resolving)
        if reference.shape[-1] != size:
            reference = torch.as_tensor(fourier_crop(reference.cpu().numpy(), size)).to(self.device)
        radius = self.radius * size / self.box
        count = len(self.particles)
        rotations, shifts = np.zeros((count, 3, 3)), np.zeros((count, 3))
        for part in np.array_split(np.arange(count), max(1, int(np.ceil(count / MOST)))):
            self.tell("posing all", 0.45)
            some = self._load(part, resolving, around)[0]
            grid, turned, allowed = self._grid(some, part, 15.0, anchor, some.step if beside else None, rng)
            half = self.tensor(self.half[part])
            step = expect(some, reference, grid, limit=limit, radius=radius, half=half, allowed=allowed)
            rotations[part] = turned[step.rotation.cpu().numpy()]
            shifts[part] = around[part] + grid.shifts[step.shift.cpu().numpy()] * some.step
        return Poses(rotations, shifts)

    def within(self, poses: Poses, anchor: Anchor | None) -> Poses:
        """Pull poses back into the cone, and to at most `reach` from the anchor's shifts (from 0 without one)."""
        if anchor is None:
            return Poses(poses.rotations, shortened(poses.shifts, self.reach))
        return anchor.held(poses, self.reach)


def some_of(count: int, most: int, rng: np.random.Generator) -> Ints:
    """Return all rows, or `most` of them at random, ascending."""
    return np.arange(count) if count <= most else np.sort(rng.permutation(count)[:most])


def centred(poses: Poses) -> Poses:
    """Move the reference's centre to where most boxes have theirs: by the ``g`` that minimises ``sum |p - A g|^2``."""
    g = np.einsum("nij,ni->j", poses.rotations, poses.shifts) / len(poses.shifts)
    return Poses(poses.rotations, poses.shifts - poses.rotations @ g)
