"""The map that needs no training: the power of each particle in Fourier shells, unchanged by rotation and shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.fourier import shell_index, wedge_mask
from napari_disentangle.particles import dimensions

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_disentangle.particles import ParticleSet

    Floats = NDArray[np.float64]

REFERENCE_BOX = 32
"""Voxels per axis at which a shell is one Fourier voxel thick."""
FEWEST_OF_A_TOMOGRAM = 30
"""Particles that a tomogram needs before its own median is trusted."""
_VOXELS_AT_ONCE = 2**23


def shell_power(
    volumes: ArrayLike,
    *,
    shells: int = 12,
    tilt_ranges: ArrayLike | None = None,
    frames: ArrayLike | None = None,
) -> Floats:
    """Return the log of the mean power in Fourier shells, lowest frequency first.

    In a box of up to 32 voxels, shell ``s`` holds the frequencies that round to ``s`` per box; in a larger box shells
    are ``n / 32`` of these thick, so that the default of 12 always reaches three quarters of the Nyquist limit. The
    zero frequency (the grey level) belongs to none. A box too small for so many shells has those up to Nyquist.

    Parameters
    ----------
    volumes : (b, n, n, n)
    shells : int
        Most shells to return.
    tilt_ranges : (b, 2), optional
        Lowest and highest tilt, in degrees: only coefficients that the tilt series has sampled are averaged.
    frames : (b, 3, 3), optional
        Rotations (xyz) from each box to its tomogram, where boxes are not cut along its axes.

    Returns
    -------
    (b, min(shells, shells up to Nyquist)), float64
        Natural logarithm; -inf where a box has no power at all, as a padded one.

    Raises
    ------
    InputError
        If the boxes are not cubic.
    """
    from scipy import fft

    boxes = np.asarray(volumes, dtype=np.float32)
    if boxes.ndim != 4 or len(set(boxes.shape[1:])) != 1:
        raise InputError(f"Shell power needs cubic boxes (b, n, n, n), not {boxes.shape}; extract them first.")
    n = boxes.shape[-1]
    boxes = boxes - boxes.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    transform: Any = fft.rfftn(boxes, axes=(1, 2, 3), workers=1)
    power: Floats = (transform.real**2 + transform.imag**2).reshape(len(boxes), -1).astype(np.float64)
    result = np.empty((len(boxes), min(shells, shell_count(n))))
    for rows, mask in _sampled(n, len(boxes), tilt_ranges, frames):
        result[rows] = power[rows] @ _shell_weights(n, result.shape[1], mask)
    with np.errstate(divide="ignore"):
        return np.log(result)


def ring_power(images: ArrayLike) -> Floats:
    """Return the log of the mean power of images in Fourier rings of one pixel, as `shell_power` of volumes.

    Parameters
    ----------
    images : (b, n, n)

    Returns
    -------
    (b, n // 2), float64
        Finite: an empty ring has the lowest power seen.
    """
    pixels = np.asarray(images, dtype=np.float32)
    n = pixels.shape[-1]
    spectrum = np.fft.rfft2(pixels - pixels.mean(axis=(1, 2), keepdims=True))
    f, h = np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n
    ring = np.rint(np.hypot(f[:, None], h)).astype(np.int64).ravel()
    weight = np.tile(np.where((h == 0) | (2 * h == n), 1.0, 2.0), n)
    members = (ring[:, None] == np.arange(1, n // 2 + 1)) * weight[:, None]
    power = (np.abs(spectrum) ** 2).reshape(len(pixels), -1) @ (members / members.sum(axis=0))
    with np.errstate(divide="ignore"):
        return _finite(np.log(power))


def shell_count(n: int) -> int:
    """Return how many shells of `shell_power` lie below the Nyquist limit of a box of `n` voxels."""
    return int(n // 2 / max(1.0, n / REFERENCE_BOX))


def invariants(particles: ParticleSet, *, shells: int = 12, batch: int = 256) -> NDArray[np.float32]:
    """Return the shell powers of all particles, each shell with mean 0 and standard deviation 1.

    What these numbers see besides the molecule is ice, defocus and the tomogram. So, where the particles come from
    several tomograms, each tomogram's median is subtracted first; tomograms with fewer than 30 particles share
    the median of all. Differences in composition between tomograms are removed along with the rest.

    Parameters
    ----------
    particles : ParticleSet
        With boxes, whose tilt ranges and frames are used where known; or with images, of which rings are taken.
    shells : int
        As in `shell_power`.
    batch : int
        Most boxes to hold in memory; fewer when they are large.

    Returns
    -------
    (n, s), float32
        Finite; a shell that is the same in every particle is 0.

    Raises
    ------
    InputError
        If there are no boxes, they are not cubic, or voxels are NaN or infinite (which particles is said).
    """
    if particles.volumes is None:
        raise InputError(f"{particles.path} has positions but no boxes; extract the particles first.")
    shape = particles.volumes.shape
    box = shape[1:]
    if dimensions(shape) == 2:
        step = max(1, _VOXELS_AT_ONCE // int(np.prod(box)))
        read = (particles.volumes.read(np.arange(k, min(k + step, len(particles)))) for k in range(0, shape[0], step))
        images = np.concatenate([part if len(shape) == 3 else part.mean(-1) for part in read])
        return _standardised(ring_power(images)).astype(np.float32)
    ranges = particles.tilt_ranges()
    step = max(1, min(batch, _VOXELS_AT_ONCE // int(np.prod(box))))
    parts: list[Floats] = []
    for start in range(0, len(particles), step):
        rows = np.arange(start, min(start + step, len(particles)))
        volumes = particles.volumes.read(rows)
        broken = ~np.isfinite(volumes).all(axis=(1, 2, 3))
        if broken.any():
            ids = ", ".join(str(i) for i in particles.ids[rows[broken]][:5])
            raise InputError(
                f"{particles.path} has NaN or infinite voxels, in particle {ids} (counted from 0) first; leave it out."
            )
        parts.append(
            shell_power(
                volumes,
                shells=shells,
                tilt_ranges=None if ranges is None else ranges[rows],
                frames=None if particles.frames is None else particles.frames[rows],
            )
        )
    power = np.concatenate(parts) if parts else np.empty((0, min(shells, shell_count(box[0]))))
    return _standardised(without_tomogram(_finite(power), particles.tomogram)).astype(np.float32)


def _standardised(x: Floats) -> Floats:
    if not len(x):
        return x
    centred = x - x.mean(axis=0)
    spread = centred.std(axis=0)
    constant = spread <= 1e-12 * np.abs(x).max(axis=0)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def _finite(power: Floats) -> Floats:
    """Give empty boxes the lowest power seen, so that they stay apart without squeezing all others into a point."""
    finite = np.isfinite(power)
    lowest = np.where(finite, power, np.inf).min(axis=0, initial=np.inf)
    return np.where(finite, power, np.where(np.isfinite(lowest), lowest, 0.0))


def without_tomogram(power: Floats, tomogram: NDArray[np.int64] | None) -> Floats:
    """Return log powers (n, s) less their tomogram's median; those of fewer than 30 particles share that of all."""
    if tomogram is None or len(np.unique(tomogram)) < 2:
        return power
    result = power - np.median(power, axis=0)
    for k in np.unique(tomogram):
        rows = tomogram == k
        if rows.sum() >= FEWEST_OF_A_TOMOGRAM:
            result[rows] = power[rows] - np.median(power[rows], axis=0)
    return result


def _sampled(
    n: int, count: int, tilt_ranges: ArrayLike | None, frames: ArrayLike | None
) -> list[tuple[NDArray[np.int64], NDArray[np.bool_] | None]]:
    """Return the rows that share a missing wedge, and what of Fourier space they have sampled (None: all)."""
    if tilt_ranges is None:
        return [(np.arange(count), None)]
    ranges = np.asarray(tilt_ranges, dtype=np.float64)
    turns = np.tile(np.eye(3), (count, 1, 1)) if frames is None else np.asarray(frames, dtype=np.float64)
    keys, group = np.unique(np.concatenate([ranges, turns.reshape(count, 9)], axis=1), axis=0, return_inverse=True)
    masks = [wedge_mask(n, (key[0], key[1]), key[2:].reshape(3, 3)) for key in keys]
    return [(np.flatnonzero(group.reshape(-1) == k), mask) for k, mask in enumerate(masks)]


def _shell_weights(n: int, shells: int, mask: NDArray[np.bool_] | None) -> Floats:
    """Return (coefficients of rfftn, shells): the weights of the mean over each shell of the whole FFT."""
    width = max(1.0, n / REFERENCE_BOX)
    shell = shell_index(n) if width == 1 else np.rint(_radius(n) / width)
    twice = np.full(n // 2 + 1, 2.0)  # a coefficient of rfftn stands for itself and its conjugate
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    members = (shell[..., None] == np.arange(1, shells + 1)) * twice[:, None]
    weights = np.asarray(members.reshape(-1, shells), dtype=np.float64)
    if mask is not None:
        seen = weights * mask.reshape(-1, 1)
        weights = np.where(seen.any(axis=0), seen, weights)  # a thin shell may have been missed altogether
    return weights / weights.sum(axis=0)


def _radius(n: int) -> Floats:
    f = np.fft.fftfreq(n) * n
    h = np.fft.rfftfreq(n) * n
    return np.sqrt(f[:, None, None] ** 2 + f[None, :, None] ** 2 + h**2)
