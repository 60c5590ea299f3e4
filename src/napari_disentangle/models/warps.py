"""Warps of images: affine, diffeomorphic, and by increments that never fold.

A warp is a set of points (b, n, n, 2), one for each pixel: where, in the unwarped image, the pixel takes its value.
Points are xy about pixel n // 2, in units in which the image's edge is 2 long.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

AFFINE = 6
"""Numbers of an affine warp."""
LOG_SCALE = math.log(1.6)
"""Largest logarithm of an affine warp's scale along an axis."""
SHEAR = 0.5
"""Largest shear."""
HALVINGS = 6
"""The flow of a velocity is taken over 2^-6 of the time, then doubled so many times."""
INCREMENT = 3.0
"""Largest distance between the points of neighbouring pixels, in pixels; the smallest is its reciprocal."""


def turns(angles: Tensor) -> Tensor:
    """Return rotations (b, 2, 2) by angles (b,) in radians, from x to y."""
    c, s = torch.cos(angles), torch.sin(angles)
    return torch.stack([c, -s, s, c], -1).reshape(-1, 2, 2)


def still_points(n: int, like: Tensor) -> Tensor:
    """Return the warp (n, n, 2) that changes nothing, on the device of `like`."""
    axis = (torch.arange(n, device=like.device, dtype=like.dtype) - n // 2) * (2 / n)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1)


def sample(images: Tensor, points: Tensor) -> Tensor:
    """Return images (b, n, n) or (b, c, n, n) at points (b, n, n, 2): bilinear, the border going on outside."""
    n = images.shape[-1]
    coloured = images if images.ndim == 4 else images[:, None]
    grid = points + ((2 * (n // 2) + 1) / n - 1)  # grid_sample measures from the middle of the image, not from a pixel
    return F.grid_sample(coloured, grid, padding_mode="border", align_corners=False).reshape(images.shape)


def affine_matrices(numbers: Tensor, max_shift: float) -> Tensor:
    """Return bounded affine transformations that can be inverted: the exponential of a bounded matrix.

    The generator is [[s_x, m - a, t_x], [m + a, s_y, t_y], [0, 0, 0]]; the inverse is that of ``-numbers``, for which
    Detlefsen and Hauberg 2019 choose the exponential.

    Parameters
    ----------
    numbers : (b, 6)
        Free numbers for the angle a (up to pi), the logarithms of the scales s (up to `LOG_SCALE`), the shear m (up to
        `SHEAR`) and the shift t; zero for the identity.
    max_shift : float
        Largest shift along each axis, as a fraction of the image's edge.

    Returns
    -------
    (b, 2, 3)
        Left-multiplies (x, y, 1).
    """
    limits = torch.tensor([math.pi, LOG_SCALE, LOG_SCALE, SHEAR, 2 * max_shift, 2 * max_shift]).to(numbers)
    angle, wide, high, shear, right, down = (torch.tanh(numbers) * limits).unbind(-1)
    zero = torch.zeros_like(angle)
    rows = [wide, shear - angle, right, shear + angle, high, down, zero, zero, zero]
    generator = torch.stack(rows, -1).reshape(-1, 3, 3)
    return torch.linalg.matrix_exp(generator.cpu()).to(numbers)[:, :2]  # Apple's GPUs know no matrix_exp


def affine_points(matrices: Tensor, points: Tensor) -> Tensor:
    """Return points (b, n, n, 2) moved by affine transformations (b, 2, 3)."""
    moved = points.flatten(1, 2) @ matrices[:, :, :2].transpose(1, 2) + matrices[:, None, :, 2]
    return moved.reshape(points.shape)


def flow_points(velocity: Tensor, n: int) -> Tensor:
    """Return the diffeomorphism (b, n, n, 2) that flows along a smooth, stationary velocity for unit time.

    Its inverse is the flow of ``-velocity``. By scaling and squaring (Arsigny et al. 2006): the flow over a short time
    is the velocity times that time, and a flow after itself is the flow over twice the time.

    Parameters
    ----------
    velocity : (b, 2, g, g)
        xy, in units in which the edge is 2 long, on a coarse grid that spans the image; bicubic between its knots.
    n : int
        Pixels per edge.
    """
    fine = F.interpolate(velocity, (n, n), mode="bicubic", align_corners=True)
    points = still_points(n, velocity)
    moved = fine / 2**HALVINGS
    for _ in range(HALVINGS):
        moved = moved + sample(moved, points + moved.movedim(1, -1))
    return points + moved.movedim(1, -1)


def increments_of(numbers: Tensor) -> Tensor:
    """Return positive increments, of the shape of `numbers`: 1 where the number is 0, bounded by `INCREMENT`."""
    return torch.exp(torch.tanh(numbers) * math.log(INCREMENT))


def integrated_points(increments: Tensor) -> Tensor:
    """Return the warp whose points are sums of positive increments, so that it never folds (Shu et al. 2018).

    Parameters
    ----------
    increments : (b, 2, n, n)
        In pixels: of x from each pixel's left neighbour, of y from the one above. Ones are the identity.

    Returns
    -------
    (b, n, n, 2)
        The sums start from the middle column and row, which stay where they are along x and along y.
    """
    n = increments.shape[-1]
    x, y = increments.unbind(1)
    x, y = x.cumsum(2), y.cumsum(1)
    return torch.stack([x - x[:, :, n // 2, None], y - y[:, n // 2, None, :]], -1) * (2 / n)


def total_variation(fields: Tensor) -> Tensor:
    """Return the absolute difference of neighbouring pixels of (b, c, n, n), both directions, mean over them and b."""
    down = (fields[:, :, 1:] - fields[:, :, :-1]).abs().mean()
    return down + (fields[..., 1:] - fields[..., :-1]).abs().mean()
