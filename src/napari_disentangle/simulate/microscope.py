"""What the microscope does to a volume: contrast transfer, the missing wedge, noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.fourier import sampled_directions
from napari_disentangle.simulate.settings import ABERRATION, AMPLITUDE, NO_WEDGE, VOLTAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_disentangle.simulate.settings import Settings

    Floats = NDArray[np.float64]
    Boxes = NDArray[np.float32]


def _frequencies(shape: tuple[int, ...]) -> Floats:
    """Return the frequencies (z, y, x // 2 + 1, 3) of ``rfftn``, xyz, in cycles per voxel."""
    axes = [np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])]
    return np.stack(np.meshgrid(*axes, indexing="ij")[::-1], -1).astype(np.float64)


def _sampled(shape: tuple[int, ...], wedge: float) -> NDArray[np.float32] | None:
    """Return 1 where a tilt series has sampled the coefficients of ``rfftn`` and 0 elsewhere; None for everywhere."""
    if wedge >= NO_WEDGE:
        return None
    return sampled_directions(_frequencies(shape), (-wedge, wedge)).astype(np.float32)


def transfer_function(shape: tuple[int, ...], settings: Settings) -> NDArray[np.float32]:
    """Return what a tilt series does to the coefficients of ``rfftn``: contrast transfer, and the missing wedge."""
    transfer = np.ones((shape[0], shape[1], shape[2] // 2 + 1), np.float32)
    if settings.defocus:
        square = (_frequencies(shape) ** 2).sum(-1) / settings.voxel**2
        transfer *= contrast_transfer(square, settings.defocus).astype(np.float32)
    sampled = _sampled(shape, settings.wedge)
    return transfer if sampled is None else transfer * sampled


def contrast_transfer(square: Floats, defocus: float) -> Floats:
    """Return the contrast transfer function with its sign turned, so that protein stays bright at low resolution.

    Parameters
    ----------
    square : (...)
        Squared spatial frequency, in 1 / A^2.
    defocus : float
        In Angstrom, positive for underfocus.

    Returns
    -------
    (...)
        ``sin(chi + arcsin(w))`` with ``chi = pi lambda dz f^2 - pi / 2 Cs lambda^3 f^4`` and w the amplitude contrast
        (Mindell and Grigorieff 2003).
    """
    volts = VOLTAGE * 1e3
    wavelength = 12.2643 / np.sqrt(volts * (1 + 0.978466e-6 * volts))  # relativistic, in Angstrom
    aberration = ABERRATION * 1e7
    chi = np.pi * wavelength * square * (defocus - 0.5 * aberration * wavelength**2 * square)
    return np.sin(chi + np.arcsin(AMPLITUDE))


def apply_transfer(volumes: Boxes, transfer: NDArray[np.float32]) -> Boxes:
    """Multiply volumes (..., z, y, x) by `transfer` in Fourier space, few at a time."""
    shape = volumes.shape[-3:]
    result = np.empty((volumes.size // int(np.prod(shape)), *shape), np.float32)
    for k, volume in enumerate(volumes.reshape(-1, *shape)):
        result[k] = np.fft.irfftn(np.fft.rfftn(volume) * transfer, s=shape, axes=(0, 1, 2))
    return result.reshape(volumes.shape)


def noise_like(shape: tuple[int, ...], signal: float, settings: Settings, rng: np.random.Generator) -> Boxes:
    """Return Gaussian noise of variance `signal` / SNR, white but for the missing wedge."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    sampled = _sampled(shape[-3:], settings.wedge)
    if sampled is not None:
        noise = apply_transfer(noise, sampled)
        noise /= noise.std(dtype=np.float64)
    return noise * np.float32(np.sqrt(signal / settings.snr))
