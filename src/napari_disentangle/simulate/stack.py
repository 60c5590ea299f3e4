"""A stack of boxes with one particle each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.folder import new_folder
from napari_disentangle.io.mrc import write_volume_stack
from napari_disentangle.simulate.labels import draw, read_maps, write_truth
from napari_disentangle.simulate.microscope import apply_transfer, noise_like, transfer_function
from napari_disentangle.simulate.settings import META, NO_WEDGE, Settings, optics_table, write_meta

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class SimulatedStack:
    """Files of a simulated stack."""

    folder: Path
    stack: Path
    """(n, z, y, x), float32, mean 0 and standard deviation 1 over all."""
    particles: Path
    """RELION's list of its boxes."""
    truth: Path
    meta: Path
    count: int


def simulate_stack(
    maps: Path,
    out: Path,
    *,
    per: int = 100,
    snr: float = 0.1,
    wedge: float = NO_WEDGE,
    defocus: float = 5e4,
    shift: float = 2.0,
    max_tilt: float = 180.0,
    voxel: float = 10.0,
    seed: int = 0,
    junk: float = 0.0,
    overwrite: bool = False,
) -> SimulatedStack:
    """Simulate boxes with one particle each, at random rotations and shifts.

    Protein is bright. The box centre is voxel n // 2; the truth's angles are RELION's and its shift is p of
    ``x_particle = A x_reference + p``, in voxels.

    Parameters
    ----------
    maps : Path
        Folder of cubic maps of one size, named IDENTITY_STATE.mrc.
    out : Path
        Folder to write: particles.mrcs, particles.star, truth.csv and meta.json.
    per : int
        Particles of each map.
    snr : float
        Variance of the signal over that of the noise, the mean over all boxes (empty ones included): one level of
        noise for all, so that a large molecule stands out more than a small one.
    wedge : float
        Tilts reach from -wedge to wedge, in degrees, about y with the beam along z; 90 leaves nothing out.
    defocus : float
        In Angstrom; 0 for no contrast transfer function.
    shift : float
        Largest shift along each axis, in voxels.
    max_tilt : float
        Largest tilt angle of a particle, in degrees; 180 for all rotations alike.
    voxel : float
        In Angstrom.
    seed : int
    junk : float
        Fraction of boxes left without a particle; their identity is "junk".
    overwrite : bool
        Replace an earlier simulation.

    Raises
    ------
    InputError
        No usable maps, a setting out of range, or `out` exists.
    """
    settings = Settings(snr, wedge, defocus, shift, max_tilt, voxel, seed)
    if per < 1:
        raise InputError(f"{per} particles of each map were asked for; give at least 1.")
    if not 0 <= junk < 1:
        raise InputError(f"The fraction of junk is {junk:g}; give 0 or more and less than 1.")
    with new_folder(out, marker=META, overwrite=overwrite) as folder:
        densities = read_maps(maps)
        rng = np.random.default_rng(seed)
        index = rng.permutation(np.repeat(np.arange(len(densities.data)), per))
        boxes, truth = draw(densities, index, settings, rng)
        for row in rng.choice(len(index), round(junk * len(index)), replace=False):
            boxes[row] = 0
            truth[row] |= {"identity": "junk", "state": "junk"}
        shape = (densities.box,) * 3
        boxes = apply_transfer(boxes, transfer_function(shape, settings))
        boxes += noise_like(boxes.shape, float(boxes.var((1, 2, 3), dtype=np.float64).mean()), settings, rng)
        boxes = (boxes - boxes.mean(dtype=np.float64)) / boxes.std(dtype=np.float64)
        write_volume_stack(folder / "particles.mrcs", boxes.astype(np.float32), voxel)
        (folder / "particles.star").write_text(_stack_list(len(index), densities.box, settings), encoding="utf-8")
        write_truth(folder / "truth.csv", truth)
        write_meta(folder / META, settings)
    return SimulatedStack(
        out, out / "particles.mrcs", out / "particles.star", out / "truth.csv", out / META, len(index)
    )


def _stack_list(count: int, box: int, settings: Settings) -> str:
    particles = {
        "rlnImageName": [f"{i + 1:06d}@particles.mrcs" for i in range(count)],
        "rlnDefocusU": [float(settings.defocus)] * count,
        "rlnDefocusV": [float(settings.defocus)] * count,
        "rlnOpticsGroup": [1] * count,
    }
    optics = optics_table(rlnImagePixelSize=float(settings.voxel), rlnImageSize=box, rlnImageDimensionality=3)
    return star_text({"optics": optics, "particles": particles})
