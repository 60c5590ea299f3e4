"""The coarse, global part of the alignment: expectation-maximisation over a grid of rotations and shifts.

The model is RELION's (Scheres 2012), ``X_i = W_i S_t A_r V + noise``: a particle's transform is the reference's, turned
and shifted, where its tilt series has seen it. The log-likelihood of a pose is, up to a constant,
``<X_i, W_i S_t A_r V> - |W_i A_r V|^2 / 2``, both weighted by 1 / noise; the first term for all poses of all particles
is one matrix product in real space, within the particle's sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging.boxes import both_sides, interpolation_transfer, phases, shell_sum
from napari_disentangle.averaging.points import CHUNK, Sphere, sphere
from napari_disentangle.averaging.wedges import coverage
from napari_disentangle.geometry import align_volumes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_disentangle.averaging.boxes import Boxes

    Floats = NDArray[np.float64]

SCORES = 8_000_000
"""Of poses held at once, one number each."""


@dataclass(frozen=True)
class Grid:
    """The poses that a search tries."""

    rotations: Tensor
    """(r, 3, 3), ``A``."""
    shifts: Floats
    """(t, 3), in voxels of the `Boxes`, xyz."""


@dataclass(frozen=True)
class Step:
    """What one round of expectation-maximisation found."""

    rotation: Tensor
    """(n,) index of the likeliest rotation."""
    shift: Tensor
    """(n,) index of the likeliest shift."""
    score: Tensor
    """(n,) log-likelihood of that pose against an empty box."""
    sums: tuple[Tensor, Tensor] | None
    """Of the whitened, aligned particles of either half, transforms; None if only poses were asked for."""


def expect(
    boxes: Boxes,
    reference: Tensor,
    grid: Grid,
    *,
    limit: float,
    radius: float,
    half: Tensor,
    spread: float | None = None,
    allowed: Tensor | None = None,
) -> Step:
    """Score every particle against every pose, and add it up where it fits.

    Parameters
    ----------
    boxes : Boxes
    reference : (c, c, c)
        Already masked.
    grid : Grid
    limit : float
        Low-pass, in shells of the box.
    radius : float
        Of the particle's sphere, in voxels.
    half : (n,)
        False for the first half, True for the second.
    spread : float, optional
        Anneal: soften the posterior until a typical particle is spread over so many poses (``1 / sum p^2``), but never
        sharpen it. None: poses only.
    allowed : (n, r), optional
        Which rotations each particle may take.

    Returns
    -------
    Step
    """
    import torch

    c, device = boxes.size, str(reference.device)
    band = ((boxes.shell <= limit) & (boxes.shell > 0)).float()
    inside = Sphere.of(c, radius + 1, device)
    references, norm = _turned(boxes, reference, grid.rotations, band, inside)
    factors = phases(c, grid.shifts, device)
    r, t = len(grid.rotations), len(grid.shifts)
    size = max(1, SCORES // (r * t))
    best = torch.zeros(len(boxes), dtype=torch.long, device=device)
    score = torch.zeros(len(boxes), device=device)
    placed = torch.zeros(2, r, len(inside), device=device)
    beta: float | None = None
    for h in (0, 1):
        for rows in torch.nonzero(half == bool(h))[:, 0].split(size):
            if not len(rows):
                continue
            filtered = boxes.whitened(rows, band)
            shifted = torch.fft.irfftn(filtered[:, None] * factors, s=(c, c, c), dim=(2, 3, 4))
            shifted = shifted.flatten(2)[:, :, inside.index].flatten(0, 1)
            likelihood = (shifted @ references.T).view(len(rows), t, r)
            likelihood -= 0.5 * (norm[0:1] if boxes.mask_of is None else norm[boxes.mask_of[rows]])[:, None, :]
            if allowed is not None:
                likelihood.masked_fill_(~allowed[rows][:, None, :], -torch.inf)
            flat = likelihood.flatten(1)
            score[rows], best[rows] = flat.max(1)
            if spread is not None:
                beta = beta or _softening(flat[:24], spread)
                posterior = torch.softmax(flat * beta, dim=1)
                placed[h] += posterior.view(-1, r).T @ shifted
    sums = None
    if spread is not None:
        sums = (_gathered(placed[0], grid.rotations, inside), _gathered(placed[1], grid.rotations, inside))
    return Step(best % r, best // r, score, sums)


def maximise(boxes: Boxes, step: Step, grid: Grid, *, limit: float, radius: float, half: Tensor) -> Tensor:
    """Return the next reference (c, c, c): the Wiener-filtered average, its signal-to-noise ratio read from the halves.

    The wedges are added up at the likeliest poses; `step.sums` at all of them.
    """
    import torch

    assert step.sums is not None
    c, device = boxes.size, str(boxes.transforms.device)
    band = ((boxes.shell <= limit) & (boxes.shell > 0)).float()
    mask = torch.as_tensor(sphere(c, radius, soft=2.0)).to(device)
    weights = [_coverage(boxes, step, grid, half == bool(h)) for h in (0, 1)]
    noise = boxes.noise[boxes.shell]
    halves = []
    for total, weight in zip(step.sums, weights, strict=True):
        filtered = total * noise * band / (weight + 0.01 * weight.mean() + 1e-6)
        halves.append(torch.fft.rfftn(torch.fft.irfftn(filtered, s=(c, c, c)) * mask))
    one, two = halves
    cross = shell_sum((one * two.conj()).real, boxes.shell)
    norm = (shell_sum(one.abs().square(), boxes.shell) * shell_sum(two.abs().square(), boxes.shell)).sqrt()
    agreement = (cross / norm.clamp_min(1e-12)).clamp(0.01, 0.999)
    agreement = 2 * agreement / (1 + agreement)  # of the sum of both halves (Rosenthal and Henderson 2003)
    weight = weights[0] + weights[1]
    mean = shell_sum(weight, boxes.shell) / shell_sum(torch.ones_like(weight), boxes.shell)
    penalty = (((1 - agreement) / agreement) * mean)[boxes.shell]
    volume = (step.sums[0] + step.sums[1]) * noise * band / (weight + penalty + 1e-6)
    return torch.fft.irfftn(volume, s=(c, c, c)) * mask


def first_reference(boxes: Boxes, rotations: Tensor, shifts: Tensor, *, limit: float, radius: float) -> Tensor:
    """Return the low-passed, masked average (c, c, c) at given poses; shifts in voxels of `boxes`."""
    import torch

    c = boxes.size
    total = torch.zeros(c, c, c, device=boxes.transforms.device)
    for rows in torch.arange(len(boxes), device=total.device).split(max(1, CHUNK // c**3)):
        volumes = torch.fft.irfftn(boxes.transforms[rows], s=(c, c, c), dim=(1, 2, 3))
        total += align_volumes(volumes, rotations[rows], shifts[rows]).sum(0)
    band = (boxes.shell <= limit) & (boxes.shell > 0)
    mask = torch.as_tensor(sphere(c, radius, soft=2.0)).to(total)
    return torch.fft.irfftn(torch.fft.rfftn(total / len(boxes)) * band, s=(c, c, c)) * mask


def _turned(boxes: Boxes, reference: Tensor, rotations: Tensor, band: Tensor, inside: Sphere) -> tuple[Tensor, Tensor]:
    """Return turned references in the sphere, (r, voxels), and their power as each wedge sees it, (g, r) or (1, r)."""
    import torch

    c = boxes.size
    transfer = interpolation_transfer(c, str(reference.device))
    sharp = torch.fft.irfftn(torch.fft.rfftn(reference) / transfer * (boxes.shell < c / 2), s=(c, c, c))
    turned = inside.placed(sharp, rotations)
    weight = both_sides(band / boxes.noise[boxes.shell].clamp_min(1e-9)) / c**3
    weights = (weight[None] if boxes.masks is None else boxes.masks * weight).flatten(1)
    norm = [
        torch.fft.rfftn(inside.filled(part), dim=(1, 2, 3)).abs().square().flatten(1) @ weights.T
        for part in turned.split(max(1, CHUNK // c**3))
    ]
    return turned, torch.cat(norm).T


def _softening(likelihood: Tensor, spread: float) -> float:
    """Return the inverse temperature (at most 1) at which the median particle is spread over `spread` poses."""
    import torch

    low, high = -12.0, 0.0
    for _ in range(14):
        middle = (low + high) / 2
        p = torch.softmax(likelihood * float(np.exp(middle)), dim=1)
        if float((1 / p.square().sum(1)).median()) > spread:
            low = middle
        else:
            high = middle
    return float(np.exp(high))


def _gathered(placed: Tensor, rotations: Tensor, inside: Sphere) -> Tensor:
    """Turn what was added up at each rotation (r, voxels) back into the reference's frame; return the transform."""
    import torch

    used = placed.abs().amax(1) > 1e-6 * placed.abs().max()
    total = inside.aligned_sum(placed[used], rotations[used])
    return torch.fft.rfftn(total) / interpolation_transfer(inside.size, str(placed.device))


def _coverage(boxes: Boxes, step: Step, grid: Grid, chosen: Tensor) -> Tensor:
    """Add up the wedges of the `chosen` particles in the reference's frame, (c, c, c // 2 + 1)."""
    import torch

    if boxes.masks is None or boxes.mask_of is None:
        return torch.full(boxes.shell.shape, float(chosen.sum()), device=boxes.shell.device)
    return coverage(boxes.masks, boxes.mask_of[chosen], grid.rotations[step.rotation[chosen]])
