"""Fourier shell correlation of two half maps, and the resolution read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.fourier import shell_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def fsc(
    half1: NDArray[np.float32], half2: NDArray[np.float32], voxel_size: float, mask: NDArray[np.float32] | None = None
) -> tuple[Floats, Floats]:
    """Correlate two maps shell by shell (Harauz and van Heel 1986).

    ``FSC(s) = Re sum(F1 conj F2) / sqrt(sum |F1|^2 sum |F2|^2)`` over the shell s. A mask multiplies both maps, less
    the grey level of each outside it, which would put the mask itself into both; a sharp one raises the FSC by itself.

    Parameters
    ----------
    half1, half2 : (n, n, n)
    voxel_size : float
        In Angstrom.
    mask : (n, n, n), optional
        Soft.

    Returns
    -------
    frequency : (n // 2 + 1,)
        In 1/A, from 0 to the Nyquist limit.
    correlation : (n // 2 + 1,)
        1 at frequency 0 by definition; 0 in a shell that is empty in either map.
    """
    n = half1.shape[-1]
    shell = shell_index(n).ravel()
    twice = np.full((n, n, n // 2 + 1), 2.0)
    twice[..., 0] = 1.0
    if n % 2 == 0:
        twice[..., -1] = 1.0
    one, two = (np.fft.rfftn(_masked(v.astype(np.float64), mask)) for v in (half1, half2))

    def total(values: Floats) -> Floats:
        return np.bincount(shell, (values * twice).ravel())[: n // 2 + 1].astype(np.float64)

    cross, norm = total((one * two.conj()).real), np.sqrt(total(np.abs(one) ** 2) * total(np.abs(two) ** 2))
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 1e-12 * max(norm.max(), 1e-300))
    correlation[0] = 1.0
    return np.arange(n // 2 + 1) / (n * voxel_size), correlation


def _masked(volume: Floats, mask: NDArray[np.float32] | None) -> Floats:
    if mask is None:
        return volume
    outside = mask == 0
    return (volume - (volume[outside].mean() if outside.any() else 0.0)) * mask


def resolution(frequency: Floats, correlation: Floats, threshold: float = 0.143) -> float | None:
    """Return 1 / the frequency at which the FSC first falls below `threshold` (linear in between), in Angstrom.

    None where it does so before the first shell is over; where it never does, the Nyquist limit.
    """
    below = np.flatnonzero(correlation[1:] < threshold) + 1
    if not len(below):
        return float(1 / frequency[-1])
    k = int(below[0])
    if k == 1:
        return None
    high, low = correlation[k - 1], correlation[k]
    at = frequency[k - 1] + (frequency[k] - frequency[k - 1]) * (high - threshold) / (high - low)
    return float(1 / at)
