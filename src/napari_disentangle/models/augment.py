"""Copies of particles that keep their content: what makes the pairs that contrastive models learn from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from napari_disentangle.geometry import align_volumes, random_rotations_like, sample_images
from napari_disentangle.models.losses import apply_wedge, sampled_region
from napari_disentangle.models.transformations import with_contrast
from napari_disentangle.models.warps import turns

if TYPE_CHECKING:
    from torch import Tensor

    from napari_disentangle.models.base import Batch, Spec

SHIFT = 0.15
"""Largest random translation along each axis, of the image's edge."""
SCALES = (0.7, 1.4)
GAINS = (0.4, 2.5)
SIGMAS = (0.5, 2.5)
"""Of the Gaussian blur, in pixels."""
_GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


def turned_volumes(volumes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return volumes (b, n, n, n) each turned at random, and the rotations (b, 3, 3) by which they were sampled."""
    turns = random_rotations_like(len(volumes), volumes, generator)
    return align_volumes(volumes, turns, torch.zeros_like(turns[:, 0])), turns


def wedged_again(copy: Tensor, turns: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Take the missing wedge from turned volumes as from the particles, and return where they have data after both.

    Parameters
    ----------
    copy : (b, n, n, n)
    turns : (b, 3, 3)
        By which the particles of `batch` were sampled; they had lost their wedge before.
    """
    if batch.tilts is None:
        return copy, None
    n, frames = copy.shape[-1], batch.frames
    again = sampled_region(n, batch.tilts, frames)
    before = sampled_region(n, batch.tilts, turns if frames is None else frames @ turns)
    return apply_wedge(copy, again), again * before


def augmented(particles: Tensor, spec: Spec, generator: torch.Generator) -> Tensor:
    """Return a randomly changed copy of each image (b, ...), by the augmentation of `spec`.

    Images are turned, shifted, scaled or blurred, or their contrast, saturation or hue is changed: the rows of
    DualContrast's table 2. Saturation and hue are of images in colour.
    """
    kind, b = spec.augmentation, len(particles)

    def uniform(low: float, high: float) -> Tensor:
        return (torch.rand(b, generator=generator) * (high - low) + low).to(particles)

    limit = math.radians(spec.turn)
    one, none = torch.ones(b).to(particles), torch.zeros(b).to(particles)
    if kind in ("rotation", "translation", "scale"):
        angle = uniform(-limit, limit) if kind == "rotation" else none
        scale = torch.exp(uniform(math.log(SCALES[0]), math.log(SCALES[1]))) if kind == "scale" else one
        shift = torch.stack([uniform(-SHIFT, SHIFT), uniform(-SHIFT, SHIFT)], 1) if kind == "translation" else None
        moved = torch.zeros(b, 2).to(particles) if shift is None else shift * particles.shape[-1]
        return sample_images(particles, scale[:, None, None] * turns(angle), moved)
    if kind == "contrast":
        return with_contrast(particles, torch.exp(uniform(math.log(GAINS[0]), math.log(GAINS[1]))))
    if kind == "blur":
        return _blurred(particles, uniform(*SIGMAS))
    if kind == "saturation":
        grey = (particles * torch.tensor(_GREY).to(particles).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
        return grey + (particles - grey) * uniform(0.0, 2.0).reshape(-1, 1, 1, 1)
    return torch.einsum("bij,bjyx->biyx", _hue_turns(uniform(-math.pi, math.pi)), particles)


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Return images (b, ..., n, n) blurred by Gaussians of so many pixels each (b,)."""
    n = images.shape[-1]
    at = torch.arange(n, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-((at[:, None] - at) ** 2)[None] / (2 * sigma[:, None, None] ** 2))
    kernel = F.normalize(kernel, p=1, dim=-1)
    if images.ndim == 4:
        kernel = kernel[:, None]
    return kernel @ images @ kernel.transpose(-1, -2)


def _hue_turns(angle: Tensor) -> Tensor:
    """Return (b, 3, 3) rotations of colours about grey, by angles (b,): Rodrigues' formula."""
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    third = torch.full((3, 3), 1 / 3).to(angle)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]).to(angle) / math.sqrt(3)
    return c * torch.eye(3).to(angle) + (1 - c) * third + s * cross
