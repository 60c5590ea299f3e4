"""Fourier space: cropping to fewer voxels, shells, and the missing wedge."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


ALONG_BEAM = 1e-5
"""Cycles per voxel of kx below which a frequency lies in the plane of tilt 90, whose tangent no number can hold."""


@lru_cache(maxsize=64)
def resampling_matrix(size: int, out: int, step: float) -> Floats:
    """Return the (out, size) matrix that resamples one axis about its centre, band-limited.

    Output voxel ``i`` lies at ``size // 2 + (i - out // 2) * step`` of the input, so that voxel n // 2 stays the
    centre. Frequencies above the output's Nyquist limit are dropped; with ``size == out * step`` this is Fourier
    cropping exactly, and any other step (fractional binning) is exact in its voxel size.
    """
    k = np.fft.fftfreq(size) * size
    keep = np.abs(k) / size <= 0.5 / step + 1e-9
    limit = np.isclose(np.abs(k) / size, 0.5 / step) & ~np.isclose(np.abs(k), size / 2)  # the input's own stands once
    weight = np.where(limit, 0.5, 1.0) * keep
    target = size // 2 + (np.arange(out) - out // 2) * step
    source = np.arange(size)
    phase = 2 * np.pi * (target[:, None] - source[None, :])[..., None] * k / size
    return (np.cos(phase) * weight).sum(-1) / size


def fourier_crop(
    volumes: NDArray[np.float32], out: int, step: float | None = None, *, dims: int = 3
) -> NDArray[np.float32]:
    """Bin volumes in Fourier space.

    Parameters
    ----------
    volumes : (..., z, y, x)
        Cubic, or of one size per axis.
    out : int
        Voxels per axis of the result.
    step : float, optional
        Binning factor, fractional if need be; default: the input's size / `out`, per axis.
    dims : int
        Axes, from the last: 2 for images.

    Returns
    -------
    (..., out, out, out), float32
        Voxel ``out // 2`` is where voxel ``n // 2`` was.
    """
    result = np.asarray(volumes, dtype=np.float32)
    for axis in range(-dims, 0):
        size = result.shape[axis]
        matrix = resampling_matrix(size, out, step or size / out).astype(np.float32)
        result = np.moveaxis(np.moveaxis(result, axis, -1) @ matrix.T, -1, axis)
    return np.ascontiguousarray(result)


def resampled(volume: NDArray[np.float32], out: int, step: float) -> NDArray[np.float32]:
    """Show a map in another box, at other voxels, about the same centre voxel n // 2.

    Parameters
    ----------
    volume : (z, y, x)
    out : int
        Voxels per axis of the result.
    step : float
        Voxel size of the result over that of `volume`.

    Returns
    -------
    (out, out, out), float32
        Zero where the box is wider than the map.
    """
    if volume.shape == (out,) * 3 and np.isclose(step, 1.0, rtol=1e-3):
        return np.asarray(volume, dtype=np.float32)
    least = int(np.ceil(out * step / 2)) * 2
    wide = [max(edge, least) for edge in volume.shape]
    padded = np.zeros(wide, dtype=np.float32)
    places = (slice(w // 2 - e // 2, w // 2 - e // 2 + e) for w, e in zip(wide, volume.shape, strict=True))
    padded[tuple(places)] = volume
    return fourier_crop(padded, out, step)


@lru_cache(maxsize=16)
def shell_index(n: int) -> NDArray[np.int64]:
    """Return the (n, n, n // 2 + 1) shell, in units of 1 / (n voxels), of each coefficient of ``rfftn``."""
    f = np.fft.fftfreq(n) * n
    h = np.fft.rfftfreq(n) * n
    radius = np.sqrt(f[:, None, None] ** 2 + f[None, :, None] ** 2 + h[None, None, :] ** 2)
    return np.rint(radius).astype(np.int64)


def wedge_mask(n: int, tilt_range: tuple[float, float], frame: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Return which coefficients of ``rfftn`` a tilt series has sampled.

    A tilt axis along y and a beam along z: the plane of tilt ``t`` is ``kz = kx tan(t)``, so that a range from a to b
    has seen every direction in the xz plane between them.

    Parameters
    ----------
    n : int
        Box, in voxels.
    tilt_range : (float, float)
        Lowest and highest tilt, in degrees, signed.
    frame : (3, 3), optional
        Rotation (xyz) from the box to the tomogram, for boxes that are not cut along the tomogram's axes.

    Returns
    -------
    (n, n, n // 2 + 1), bool
        The zero frequency counts as sampled.
    """
    f = np.fft.fftfreq(n)
    k: Floats = np.stack(np.meshgrid(f, f, np.fft.rfftfreq(n), indexing="ij")[::-1], -1).astype(np.float64)
    if frame is not None:
        k = k @ np.asarray(frame).T
    return sampled_directions(k, tilt_range)


def sampled_directions(k: NDArray[np.float64], tilt_range: tuple[float, float]) -> NDArray[np.bool_]:
    """Return whether frequencies `k` (..., 3, xyz) lie between the planes of the lowest and highest tilt (degrees)."""
    low, high = np.tan(np.radians(np.clip(tilt_range, -89.999, 89.999)))
    sign = np.where(k[..., 0] < 0, -1.0, 1.0)
    x, z = np.abs(k[..., 0]), k[..., 2] * sign
    along_beam = (x <= ALONG_BEAM) & bool(np.max(np.abs(tilt_range)) >= 90)
    return ((z <= high * x + 1e-9) & (z >= low * x - 1e-9)) | along_beam


def low_passed(volumes: NDArray[np.float32], voxel_size: float, resolution: float) -> NDArray[np.float32]:
    """Blur volumes for the eye: a Gaussian in Fourier space that has fallen to 1/e at ``1 / resolution``.

    Parameters
    ----------
    volumes : (b, n, n, n)
    voxel_size, resolution : float
        In Angstrom.
    """
    from scipy import fft

    n = volumes.shape[-1]
    full, half = np.fft.fftfreq(n), np.fft.rfftfreq(n)
    squared = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    gain = np.exp(-squared * (resolution / voxel_size) ** 2).astype(np.float32)
    spectrum = np.asarray(fft.rfftn(volumes, axes=(1, 2, 3), workers=1))
    return np.asarray(fft.irfftn(spectrum * gain, s=(n, n, n), axes=(1, 2, 3), workers=1), np.float32)
