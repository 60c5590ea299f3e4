"""How alike two density maps are, at best over one rigid motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.averaging.points import Sphere
from napari_disentangle.fourier import fourier_crop
from napari_disentangle.geometry import align_volumes, geodesic_angle, rotation_from_vector, rotation_grid, xyz_to_zyx

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float64]
    Map = NDArray[np.float32]

COARSE = 16
"""Voxels per axis of the global search."""
STARTS = 12
"""Best poses of the global search that are refined."""


@dataclass(frozen=True)
class Match:
    """The rigid motion under which a volume is most like a reference."""

    correlation: float
    """Pearson's, inside the sphere, of the moved volume and the reference."""
    rotation: Floats
    """(3, 3), ``A``: the moved volume is the volume sampled at ``A x + p``; proper, so the hand is kept."""
    shift: Floats
    """(3,), ``p`` in voxels, xyz."""

    def moved(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the volume (n, n, n) that was matched where the reference has it."""
        import torch

        turn, shift = (torch.as_tensor(a[None], dtype=torch.float32) for a in (self.rotation, self.shift))
        return align_volumes(torch.as_tensor(volume)[None], turn, shift)[0].numpy()


def match_volume(
    volume: NDArray[np.float32], reference: NDArray[np.float32], *, radius: float, max_shift: float | None = None,
    starts: Floats | None = None, device: str = "cpu",
) -> Match:  # fmt: skip
    """Move `volume` onto `reference` and correlate them in a sphere.

    A search over all rotations 15 degrees apart and shifts at `COARSE` voxels, then gradient ascent of the correlation
    from the best few to a fraction of a degree at full size.

    Parameters
    ----------
    volume, reference : (n, n, n)
    radius : float
        Of the sphere, in voxels, about the centre of `reference`.
    max_shift : float, optional
        Largest shift of the search, in voxels; default n / 8.
    starts : (k, 3, 3), optional
        Rotations that the ascent starts from, instead of the search; it may climb far from them, at any shift.
    device : str
        For torch.

    Returns
    -------
    Match
    """
    import torch

    n = reference.shape[-1]
    if volume.shape != reference.shape:
        raise ValueError(f"shapes differ: {volume.shape} and {reference.shape}")
    max_shift = n / 8 if max_shift is None else max_shift
    coarse = min(n, COARSE)
    scale = n / coarse
    small, target = (torch.as_tensor(fourier_crop(v, coarse)).to(device) for v in (volume, reference))
    if starts is None:
        rotations, shifts = _global_search(small, target, radius / scale, max_shift / scale)
    else:
        rotations = torch.as_tensor(starts, dtype=torch.float32).to(device)
        shifts = torch.zeros(len(starts), 3, device=device)
    rotations, shifts, score = ascend(small, target, radius / scale, rotations, shifts, steps=30)
    best = torch.argsort(score, descending=True, stable=True)[:3]
    # From here on the reference is what moves: sampling blurs, and blur would make a noisy volume look better
    large, target = (torch.as_tensor(np.ascontiguousarray(v, dtype=np.float32)).to(device) for v in (reference, volume))
    rotations, shifts = rotations[best], shifts[best] * scale
    back = rotations.transpose(1, 2)
    back, shifts, score = ascend(large, target, radius, back, -(back @ shifts[..., None])[..., 0], steps=40)
    k = int(score.argmax())
    rotation = back[k].cpu().double().numpy().T
    return _polish(volume, reference, radius, rotation, -rotation @ shifts[k].cpu().double().numpy())


def onto(volume: NDArray[np.float32], reference: NDArray[np.float32], *, radius: float) -> NDArray[np.float32]:
    """Return `volume` (n, n, n) moved by the rigid motion under which it is most like `reference`.

    Parameters
    ----------
    volume : (n, n, n)
    reference : (m, m, m)
        Of the same box; resampled where m is not n.
    radius : float
        Of the sphere that is compared, in voxels of `volume`.
    """
    n = volume.shape[-1]
    target = reference if reference.shape[-1] == n else fourier_crop(reference, n)
    return match_volume(volume, target, radius=radius).moved(volume)


def _global_search(volume: Tensor, reference: Tensor, radius: float, max_shift: float) -> tuple[Tensor, Tensor]:
    """Return rotations (k, 3, 3) and shifts (k, 3) of the best correlations, no two within 20 degrees."""
    import torch

    n, device = reference.shape[-1], str(reference.device)
    inside, around = (Sphere.of(n, r, device) for r in (radius, radius + 1))  # sampling blurs the edge outwards
    values = inside.of_volumes(reference[None])
    target = inside.filled(values - values.mean())[0]
    shifts = shift_grid(max_shift, 1.0)
    eye = torch.eye(3, device=device).expand(len(shifts), 3, 3)
    moves = torch.as_tensor(shifts, dtype=torch.float32).to(device)
    moved = inside.aligned(volume, eye, moves)
    norm = (moved - moved.mean(1, keepdim=True)).norm(dim=1) * target.norm()
    moved = around.aligned(volume, eye, moves)
    grid = rotation_grid(15)
    matrices = torch.as_tensor(grid, dtype=torch.float32).to(device)
    # <target, volume(A x + p)> = <target(A^T x), volume(x + p)>, and the sphere's norm does not depend on A
    best, at = (around.placed(target, matrices) @ moved.T / norm.clamp_min(1e-12)).max(1)
    chosen: list[int] = []
    for k in torch.argsort(best, descending=True, stable=True).tolist():
        if not chosen or geodesic_angle(grid[chosen], grid[k]).min() > 20:
            chosen.append(k)
        if len(chosen) == STARTS:
            break
    return matrices[chosen], moves[at[chosen]]


def ascend(
    volume: Tensor, reference: Tensor, radius: float, rotations: Tensor, shifts: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Climb the correlation from each start with Adam; return the best rotations, shifts and correlations met."""
    import torch

    n, device = reference.shape[-1], str(reference.device)
    inside = Sphere.of(n, radius, device)
    target = inside.of_volumes(reference[None])[0]
    target = target - target.mean()
    target = target / (target.norm() + 1e-12)
    step = torch.zeros(len(rotations), 6, device=device, requires_grad=True)
    # One unit of either moves the sphere's surface by about one voxel
    scale = torch.tensor([1.0 / radius] * 3 + [1.0] * 3, device=device)
    optimiser = torch.optim.Adam([step], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=0.02)
    best = torch.full((len(rotations),), -torch.inf, device=device)
    kept = torch.zeros(len(rotations), 6, device=device)
    for _ in range(steps + 1):
        turn, move = (step * scale).split(3, dim=1)
        moved = inside.aligned(volume, rotation_from_vector(turn) @ rotations, shifts + move)
        centred = moved - moved.mean(1, keepdim=True)
        score = centred @ target / (centred.norm(dim=1) + 1e-12)
        better = score.detach() > best
        best = torch.where(better, score.detach(), best)
        kept[better] = (step.detach() * scale)[better]
        optimiser.zero_grad()
        (-score.sum()).backward()
        optimiser.step()
        schedule.step()
    return rotation_from_vector(kept[:, :3]) @ rotations, shifts + kept[:, 3:], best


def _polish(volume: Map, reference: Map, radius: float, rotation: Floats, shift: Floats) -> Match:
    """Finish with cubic splines of the reference, at the volume's own voxels."""
    from scipy.ndimage import map_coordinates, spline_filter
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    n = len(volume)
    coefficients = spline_filter(reference.astype(np.float64), order=3)
    points = xyz_to_zyx(np.argwhere(np.ones(volume.shape, dtype=np.bool_)) - n // 2)
    values = volume.astype(np.float64).ravel()

    def motion(step: Floats) -> tuple[Floats, Floats]:
        return Rotation.from_rotvec(step[:3] / radius).as_matrix() @ rotation, shift + step[3:]

    def loss(step: Floats) -> float:
        turn, move = motion(step)
        near = ((points - move) ** 2).sum(1) <= radius**2
        source = xyz_to_zyx((points[near] - move) @ turn) + n // 2  # A^T (x - p)
        target = map_coordinates(coefficients, source.T, order=3, prefilter=False)
        target -= target.mean()
        ours = values[near] - values[near].mean()
        return -float(ours @ target / (np.linalg.norm(ours) * np.linalg.norm(target) + 1e-12))

    simplex = np.concatenate([np.zeros((1, 6)), 0.5 * np.eye(6)])
    found = minimize(
        loss,
        np.zeros(6),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": 150, "xatol": 0.01, "fatol": 1e-5},
    )
    return Match(-float(found.fun), *motion(found.x))


def shift_grid(max_shift: float, step: float) -> Floats:
    """Return the (t, 3) points of a cubic grid within `max_shift` of 0, the nearest first."""
    k = int(np.floor(max_shift / step + 1e-9))
    axis = np.arange(-k, k + 1, dtype=np.float64) * step
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    length = np.sqrt((points**2).sum(1))
    order = np.argsort(length, kind="stable")
    return points[order[length[order] <= max_shift + 1e-9]]
