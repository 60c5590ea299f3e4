"""A tomogram full of particles, with lists of them for RELION 4 and 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.folder import new_folder
from napari_disentangle.io.mrc import write_volume
from napari_disentangle.simulate.labels import draw, read_maps, write_truth
from napari_disentangle.simulate.microscope import apply_transfer, noise_like, transfer_function
from napari_disentangle.simulate.settings import (
    ABERRATION,
    AMPLITUDE,
    META,
    NO_WEDGE,
    VOLTAGE,
    Settings,
    optics_table,
    write_meta,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

TILT_STEP = 3.0
"""Degrees between the images of the tilt series that a simulated tomogram claims."""
TOMOGRAM = "sim_01"


@dataclass(frozen=True)
class SimulatedTomogram:
    """Files of a simulated tomogram."""

    folder: Path
    tomogram: Path
    """(z, y, x), float32."""
    particles: Path
    """RELION 5: Angstrom from the tomogram's centre."""
    particles_relion4: Path
    """The same particles in pixels from its corner."""
    tomograms: Path
    optimisation_set: Path
    truth: Path
    meta: Path
    count: int
    """Particles that found a place, at most as many as were asked for."""


def simulate_tomogram(
    maps: Path,
    out: Path,
    *,
    count: int = 300,
    size: Sequence[int] = (96, 256, 256),
    spacing: float = 24.0,
    snr: float = 0.1,
    wedge: float = NO_WEDGE,
    defocus: float = 5e4,
    shift: float = 2.0,
    max_tilt: float = 180.0,
    voxel: float = 10.0,
    seed: int = 0,
    overwrite: bool = False,
) -> SimulatedTomogram:
    """Simulate a tomogram full of particles, with lists of them for RELION 4 and 5.

    Their positions are whole voxels and the shifts are not told to the lists: a picker's error.

    Parameters
    ----------
    maps, snr, wedge, defocus, shift, max_tilt, voxel, seed, overwrite
        As in `simulate_stack`; the SNR is measured in boxes of the maps' size around the particles.
    out : Path
        Folder to write: tomogram.mrc, particles.star (RELION 5), particles_relion4.star, tomograms.star with
        tilt_series/sim_01.star, optimisation_set.star, truth.csv and meta.json.
    count : int
        Particles; fewer where they do not fit.
    size : (z, y, x)
        Of the tomogram, in voxels.
    spacing : float
        Least distance between two particles, in voxels.

    Raises
    ------
    InputError
        No usable maps, a setting out of range, or `out` exists.
    """
    settings = Settings(snr, wedge, defocus, shift, max_tilt, voxel, seed)
    shape = tuple(int(n) for n in size)
    if count < 1:
        raise InputError(f"{count} particles were asked for; give at least 1.")
    if len(shape) != 3:
        raise InputError(
            f"The size of the tomogram is {shape}; give three numbers of voxels, z,y,x, such as --size 96,256,256."
        )
    with new_folder(out, marker=META, overwrite=overwrite) as folder:
        densities = read_maps(maps)
        n = densities.box
        if min(shape) < n:
            raise InputError(
                f"A tomogram of {shape} voxels is smaller than the maps in {maps}, {n}; give a larger --size."
            )
        rng = np.random.default_rng(seed)
        centres = _scatter(count, shape, n, spacing, rng)
        boxes, truth = draw(densities, rng.integers(len(densities.data), size=len(centres)), settings, rng)
        windows = [tuple(slice(c - n // 2, c - n // 2 + n) for c in centre) for centre in centres]
        volume = np.zeros(shape, np.float32)
        for window, box in zip(windows, boxes, strict=True):
            volume[window] += box
        volume = apply_transfer(volume, transfer_function(shape, settings))
        signal = float(np.mean([volume[window].var(dtype=np.float64) for window in windows]))
        volume += noise_like(shape, signal, settings, rng)
        write_volume(folder / "tomogram.mrc", volume, voxel)
        corner = centres[:, ::-1]
        for row, xyz in zip(truth, corner, strict=True):
            row |= {"x": float(xyz[0]), "y": float(xyz[1]), "z": float(xyz[2])}
        (folder / "tilt_series").mkdir()
        for name, text in _tomogram_lists(corner, shape, settings).items():
            (folder / name).write_text(text, encoding="utf-8")
        write_truth(folder / "truth.csv", truth)
        write_meta(folder / META, settings)
    return SimulatedTomogram(
        out, out / "tomogram.mrc", out / "particles.star", out / "particles_relion4.star", out / "tomograms.star",
        out / "optimisation_set.star", out / "truth.csv", out / META, len(centres),
    )  # fmt: skip


def _scatter(count: int, shape: tuple[int, ...], box: int, spacing: float, rng: np.random.Generator) -> Ints:
    """Drop centres (k, 3), zyx, one after the other, wherever the box fits and no other is within `spacing` voxels."""
    low, high = np.full(3, box // 2), np.array(shape) - box + box // 2 + 1
    centres = np.empty((0, 3), np.int64)
    for _ in range(200):
        for candidate in rng.integers(low, high, size=(count, 3)):
            if len(centres) == count:
                return centres
            if (((centres - candidate) ** 2).sum(1) > spacing**2).all():
                centres = np.vstack([centres, candidate])
    return centres


def _tomogram_lists(corner: Ints, shape: tuple[int, ...], settings: Settings) -> dict[str, str]:
    """Return the texts of all STAR files of a tomogram, by name; `corner` (n, 3) is xyz in voxels."""
    size = np.array(shape[::-1])
    centred = (corner - size / 2) * settings.voxel
    optics = optics_table(rlnTomoTiltSeriesPixelSize=float(settings.voxel))
    general = {"rlnTomoSubTomosAre2DStacks": 0}
    common = {"rlnTomoName": [TOMOGRAM] * len(corner), "rlnOpticsGroup": [1] * len(corner)}
    relion5 = {f"rlnCenteredCoordinate{axis}Angst": centred[:, k] for k, axis in enumerate("XYZ")} | common
    relion4 = {f"rlnCoordinate{axis}": corner[:, k].astype(np.float64) for k, axis in enumerate("XYZ")} | common
    tomograms = {
        "rlnTomoName": TOMOGRAM, "rlnTomoTiltSeriesStarFile": f"tilt_series/{TOMOGRAM}.star", "rlnVoltage": VOLTAGE,
        "rlnSphericalAberration": ABERRATION, "rlnAmplitudeContrast": AMPLITUDE,
        "rlnTomoTiltSeriesPixelSize": float(settings.voxel), "rlnTomoSizeX": size[0], "rlnTomoSizeY": size[1],
        "rlnTomoSizeZ": size[2], "rlnTomoReconstructedTomogram": "tomogram.mrc", "rlnTomoTomogramBinning": 1.0,
    }  # fmt: skip
    steps = max(round(2 * settings.wedge / TILT_STEP), 1)
    tilts = np.linspace(-settings.wedge, settings.wedge, steps + 1)
    series = {
        "rlnMicrographName": [f"{k + 1:03d}@tilt_series/{TOMOGRAM}.mrcs" for k in range(len(tilts))],
        "rlnTomoNominalStageTiltAngle": tilts,
        "rlnDefocusU": [float(settings.defocus)] * len(tilts),
        "rlnDefocusV": [float(settings.defocus)] * len(tilts),
    }
    return {
        "particles.star": star_text({"general": general, "optics": optics, "particles": relion5}),
        "particles_relion4.star": star_text({"optics": optics, "particles": relion4}),
        "tomograms.star": star_text({"global": {label: [value] for label, value in tomograms.items()}}),
        f"tilt_series/{TOMOGRAM}.star": star_text({TOMOGRAM: series}),
        "optimisation_set.star": star_text(
            {"": {"rlnTomoParticlesFile": "particles.star", "rlnTomoTomogramsFile": "tomograms.star"}}
        ),
    }
