"""The fine, local part of the alignment: each half against its own average, up to where the two agree."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging.boxes import (
    both_sides,
    interpolation_transfer,
    level,
    phases,
    read_chunks,
    standardise,
)
from napari_disentangle.averaging.fsc import fsc
from napari_disentangle.averaging.match import ascend, shift_grid
from napari_disentangle.averaging.points import Sphere, sphere
from napari_disentangle.averaging.wedges import coverage
from napari_disentangle.fourier import fourier_crop, shell_index
from napari_disentangle.geometry import align_volumes, rotation_from_vector

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.averaging.anchor import Anchor
    from napari_disentangle.averaging.wedges import Wedges
    from napari_disentangle.particles import ParticleSet

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Map = NDArray[np.float32]

BATCH = 500_000
"""Voxels of particles handled at once."""
THRESHOLD = 0.143
"""FSC up to which the references are trusted (Rosenthal and Henderson 2003)."""


@dataclass(frozen=True)
class Poses:
    """Poses in voxels of the input."""

    rotations: Floats
    """(n, 3, 3), ``A``."""
    shifts: Floats
    """(n, 3), ``p``, xyz."""

    def subset(self, rows: Ints) -> Poses:
        """Return those of some particles."""
        return replace(self, rotations=self.rotations[rows], shifts=self.shifts[rows])


def half_averages(
    particles: ParticleSet,
    half: NDArray[np.bool_],
    wedges: Wedges | None,
    poses: Poses,
    *,
    size: int,
    raw: bool,
    device: str,
) -> tuple[Map, Map, Map]:
    """Average the particles of the first half, of the second, and all.

    ``sum(x_i) / (sum(W_i) + tau)`` in Fourier space, every particle and its wedge turned into the reference's frame, or
    the plain mean where nothing is missing. ``tau`` is 2 % of the count (at least 1): directions that no particle has
    seen stay empty.

    Parameters
    ----------
    size : int
        Voxels per axis at which to work.
    raw : bool
        The boxes as they are, and what a turn brings in from outside a box of its grey `level`. False: each
        standardised first, and 0 from outside.

    Returns
    -------
    half1, half2, both : (size, size, size)
    """
    import torch

    assert particles.volumes is not None
    n = particles.volumes.shape[-1]
    step = n / size
    total = torch.zeros(2, size, size, size, device=device)
    seen = torch.zeros(2, size, size, size // 2 + 1, device=device)
    for at, volumes in read_chunks(particles, np.arange(len(particles))):
        grey = level(volumes) if raw else np.zeros((len(volumes), 1, 1, 1), np.float32)
        small = volumes - grey if raw else standardise(volumes)
        small = torch.as_tensor(small if size == n else fourier_crop(small, size)).to(device)
        turns = torch.as_tensor(poses.rotations[at]).to(device, torch.float32)
        moves = torch.as_tensor(poses.shifts[at] / step).to(device, torch.float32)
        parts = zip(
            *(v.split(max(1, BATCH // size**3)) for v in (small, turns, moves, torch.as_tensor(half[at]))), strict=True
        )
        for volume, turn, move, second in parts:
            aligned = align_volumes(volume, turn, move)
            for h in (0, 1):
                total[h] += aligned[second.to(device) == bool(h)].sum(0)
        for h in (0, 1):
            total[h] += float(grey[half[at] == bool(h)].sum())
        if wedges is not None:
            masks, mask_of = wedges.masks(size, at, device)
            for h in (0, 1):
                mine = torch.as_tensor(half[at] == bool(h)).to(device)
                seen[h] += coverage(masks, mask_of[mine], turns[mine])
    sums = total.cpu().numpy()
    counts = [int((~half).sum()), int(half.sum())]
    if wedges is None:
        means = [s / max(k, 1) for s, k in zip(sums, counts, strict=True)]
        return means[0], means[1], (sums[0] + sums[1]) / max(sum(counts), 1)
    weights = seen.cpu().numpy()
    first, other = (_filled(s, w, k) for s, w, k in zip(sums, weights, counts, strict=True))
    return first, other, _filled(sums[0] + sums[1], weights[0] + weights[1], sum(counts))


def _filled(total: Map, seen: Map, count: int) -> Map:
    """Divide a sum (n, n, n) by how often each coefficient was seen."""
    size = total.shape[-1]
    filled = np.fft.rfftn(total.astype(np.float64)) / (seen + max(1.0, 0.02 * count))
    return np.fft.irfftn(filled, s=(size, size, size), axes=(0, 1, 2)).astype(np.float32)


def drift(half1: Map, half2: Map, radius: float) -> tuple[Tensor, Tensor]:
    """Return the small rigid motion ``(G, g)`` that lays the second half's average on the first's.

    Both (size, size, size); the second sampled at ``G x + g`` (voxels) is like the first.
    """
    import torch

    gain = np.exp(-((np.arange(half1.shape[-1]) * 5 / half1.shape[-1]) ** 2))
    one, two = (torch.as_tensor(lowpass(v, gain)) for v in (half1, half2))
    turn, move, _ = ascend(two, one, radius, torch.eye(3)[None], torch.zeros(1, 3), steps=30)
    return turn[0], move[0]


def rejoined(half1: Map, half2: Map, poses: Poses, half: NDArray[np.bool_], radius: float) -> Poses:
    """Move the second half's poses so that its average lies on the first's; lengths in voxels of the input."""
    turn, move = (v.double().numpy() for v in drift(half1, half2, radius))
    rotations, shifts = poses.rotations.copy(), poses.shifts.copy()
    shifts[half] += rotations[half] @ move
    rotations[half] = rotations[half] @ turn
    return Poses(rotations, shifts)


def lowpass(volume: Map, gain: Floats) -> Map:
    """Multiply each Fourier shell of a volume (n, n, n) by its gain; shells beyond the list by 0."""
    n = volume.shape[-1]
    shell = shell_index(n)
    table = np.concatenate([gain, np.zeros(max(0, int(shell.max()) + 1 - len(gain)))])
    return np.fft.irfftn(np.fft.rfftn(volume) * table[shell], s=(n, n, n), axes=(0, 1, 2)).astype(np.float32)


def trusted(half1: Map, half2: Map, radius: float) -> Floats:
    """Return the Wiener gain of each shell of a half's map: its FSC as far as that stays above `THRESHOLD`, then 0."""
    mask = sphere(half1.shape[-1], radius, soft=3.0)
    _, agreement = fsc(half1, half2, 1.0, mask)
    below = np.flatnonzero(agreement < THRESHOLD)
    gain = np.clip(agreement, 0.0, 1.0)
    gain[max(int(below[0]) if len(below) else len(gain), 3) :] = 0.0  # the two lowest shells always steer
    gain[0] = 0.0
    return gain


@dataclass(frozen=True)
class References:
    """What the particles of either half are compared with, and which frequencies count."""

    volumes: tuple[Tensor, Tensor]
    """(size, size, size), Wiener-filtered, masked, and sharpened by what sampling them will blur."""
    weight: Tensor
    """(size, size, size // 2 + 1), 1 / noise within the trusted band."""
    radius: float
    """Of the particle's sphere, in voxels of this size."""

    @property
    def size(self) -> int:
        """Voxels per axis."""
        return self.volumes[0].shape[-1]


def references(half1: Map, half2: Map, *, radius: float, noise: Tensor) -> References:
    """Make references of half maps (size, size, size), up to where they agree once they lie on one another."""
    import torch

    size, device = half1.shape[-1], str(noise.device)
    turn, move = drift(half1, half2, radius)
    moved = align_volumes(torch.as_tensor(half2)[None], turn[None], move[None])[0].numpy()
    gain = trusted(half1, moved, radius)
    mask = sphere(size, radius, soft=2.0)
    sharpen = (shell_index(size) < size / 2) / interpolation_transfer(size, "cpu").numpy()
    volumes: list[Tensor] = []
    for half in (half1, half2):
        masked = np.fft.rfftn(lowpass(half, gain) * mask)
        sharp = np.fft.irfftn(masked * sharpen, s=(size, size, size), axes=(0, 1, 2)).astype(np.float32)
        volumes.append(torch.as_tensor(sharp).to(device))
    shell = torch.as_tensor(shell_index(size)).to(device)
    table = torch.zeros(int(shell.max()) + 1, device=device)
    table[: len(gain)] = torch.as_tensor(gain > 0).to(device).float()
    return References((volumes[0], volumes[1]), (table / noise.clamp_min(1e-9))[shell], radius)


def refine_round(
    particles: ParticleSet,
    half: NDArray[np.bool_],
    wedges: Wedges | None,
    poses: Poses,
    targets: References,
    *,
    angle: float,
    max_shift: float,
    anchor: Anchor | None = None,
) -> tuple[Poses, float]:
    """Move every pose uphill, each particle as seen from its own half's average.

    The log-likelihood `angle` degrees to either side about each axis gives a parabola and a turn; the peak of the
    cross-correlation then gives the shift.

    Parameters
    ----------
    max_shift : float
        In voxels of the input, from the anchor's shifts (from 0 without).
    anchor : Anchor, optional
        Poses to stay near.

    Returns
    -------
    poses : Poses
    score : float
        Mean correlation, within the trusted band, of a particle and its turned reference.
    """
    import torch

    assert particles.volumes is not None
    n, size = particles.volumes.shape[-1], targets.size
    step, device = n / size, str(targets.weight.device)
    inside = Sphere.of(size, targets.radius + 3, device)
    rotations, shifts = poses.rotations.copy(), poses.shifts.copy()
    scores = np.zeros(len(particles))
    batch = max(1, BATCH // size**3)
    for at, volumes in read_chunks(particles, np.arange(len(particles))):
        small = standardise(volumes)
        small = torch.as_tensor(small if size == n else fourier_crop(small, size)).to(device)
        for second in (False, True):
            reference = targets.volumes[int(second)]
            rows = np.flatnonzero(half[at] == second)
            for part in np.array_split(rows, max(1, int(np.ceil(len(rows) / batch)))):
                if not len(part):
                    continue
                mine = at[part]
                weight = targets.weight
                if wedges is not None:
                    masks, mask_of = wedges.masks(size, mine, device)
                    weight = weight * masks[mask_of]
                transform = torch.fft.rfftn(small[part], dim=(1, 2, 3)) * phases(size, shifts[mine] / step, device)
                turned = _turn(transform, reference, weight, inside, rotations[mine], angle, wedges is not None)
                if anchor is not None:
                    outside = anchor.beyond(turned, mine) > anchor.cone
                    turned[outside] = rotations[mine][outside]
                rotations[mine] = turned
                flat = torch.as_tensor(turned).to(device).float()
                placed = torch.fft.rfftn(inside.filled(inside.placed(reference, flat)), dim=(1, 2, 3))
                lags = torch.fft.irfftn(transform * weight * placed.conj(), s=(size, size, size), dim=(1, 2, 3))
                origin = np.zeros((len(mine), 3)) if anchor is None else anchor.shifts[mine]
                move, peak = _peak(lags, (shifts[mine] - origin) / step, max_shift / step)
                shifts[mine] += move * step
                power = [(both_sides(v.abs().square() * weight)).sum((1, 2, 3)) for v in (transform, placed)]
                norm = (power[0] * power[1]).sqrt().clamp_min(1e-12).cpu().double().numpy() / size**3
                scores[mine] = peak / norm
    return Poses(rotations, shifts), float(scores.mean())


def _turn(
    transform: Tensor, reference: Tensor, weight: Tensor, inside: Sphere, rotations: Floats, angle: float, wedge: bool
) -> Floats:
    """Return rotations (b, 3, 3) after one parabolic step about each axis, at most `angle` degrees about any."""
    import torch

    size, b = inside.size, len(rotations)
    side = float(np.radians(angle))
    vectors = torch.cat([torch.zeros(1, 3), side * torch.eye(3), -side * torch.eye(3)])
    tried = rotations[:, None] @ rotation_from_vector(vectors).double().numpy()
    flat = torch.as_tensor(tried.reshape(-1, 3, 3)).to(reference)
    placed = inside.placed(reference, flat)
    filtered = torch.fft.irfftn(transform * weight, s=(size, size, size), dim=(1, 2, 3)).flatten(1)[:, inside.index]
    likelihood = torch.einsum("bv,bjv->bj", filtered, placed.view(b, 7, -1))
    if wedge:  # without one, turning the reference leaves its power as it is
        power = torch.fft.rfftn(inside.filled(placed), dim=(1, 2, 3)).abs().square().view(b, 7, *transform.shape[1:])
        likelihood -= 0.5 * both_sides(power * weight[:, None]).sum((2, 3, 4)) / size**3
    score = likelihood.cpu().double().numpy()
    here, up, down = score[:, :1], score[:, 1:4], score[:, 4:]
    curve = 2 * here - up - down
    vertex = np.divide(up - down, 2 * curve, out=np.sign(up - down), where=curve > 1e-9 * np.abs(here) + 1e-12)
    vertex = np.clip(vertex, -1.0, 1.0) * side
    return rotations @ rotation_from_vector(torch.as_tensor(vertex)).numpy()


def _peak(lags: Tensor, offset: Floats, max_shift: float) -> tuple[Floats, Floats]:
    """Return the best lag within 2 voxels, (b, 3) in voxels, xyz, finer than a voxel, and its value, (b,).

    ``offset + lag`` stays within `max_shift`, wherever `offset` does.
    """
    b, size = len(lags), lags.shape[-1]
    near = shift_grid(2.0, 1.0).astype(np.int64)
    value = lags.cpu().double().numpy()
    z, y, x = (near % size).T[::-1]
    legal = ((offset[:, None] + near) ** 2).sum(-1) <= max_shift**2
    legal[:, 0] = True  # the first is 0: a particle may stay where it is
    k = np.where(legal, value[:, z, y, x], -np.inf).argmax(1)
    at, row = near[k], np.arange(b)
    centre = value[(row, *(at % size).T[::-1])]
    lag = at.astype(np.float64)
    for d in range(3):
        one = np.eye(3, dtype=np.int64)[d]
        up, down = (value[(row, *((at + s * one) % size).T[::-1])] for s in (1, -1))
        curve = 2 * centre - up - down
        lag[:, d] += np.clip(np.divide(up - down, 2 * curve, out=np.zeros(b), where=curve > 1e-12), -0.5, 0.5)
    total = offset + lag
    length = np.linalg.norm(total, axis=1)
    over = length > max_shift
    lag[over] = (total * (max_shift / np.maximum(length, 1e-12))[:, None] - offset)[over]
    return lag, centre
