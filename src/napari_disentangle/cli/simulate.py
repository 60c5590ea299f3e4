"""Commands that make labelled data: simulate stack, simulate tomogram."""

from __future__ import annotations

from pathlib import Path

from napari_disentangle.cli.arguments import Overwrite, Seed, Size


def stack(
    maps: Path,
    out: Path,
    /,
    *,
    per: int = 100,
    snr: float = 0.1,
    wedge: float = 90.0,
    defocus: float = 5e4,
    shift: float = 2.0,
    max_tilt: float = 180.0,
    voxel: float = 10.0,
    junk: float = 0.0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make a stack of boxes, its STAR file and its truth table.

    Parameters
    ----------
    maps
        Folder of cubic maps named IDENTITY_STATE.mrc.
    out
        Folder to write.
    per
        Particles of each map.
    snr
        Variance of the signal over variance of the noise, averaged over the boxes; one noise level for all.
    wedge
        Highest tilt in degrees; 90 for no missing wedge.
    defocus
        In Angstrom; 0 for no contrast transfer function.
    shift
        Largest shift along each axis, in voxels.
    max_tilt
        Largest tilt of the particles, in degrees.
    voxel
        Voxel size in Angstrom.
    junk
        Fraction of boxes without a particle.
    """
    from napari_disentangle.simulate import simulate_stack

    made = simulate_stack(
        maps, out, per=per, snr=snr, wedge=wedge, defocus=defocus, shift=shift, max_tilt=max_tilt, voxel=voxel,
        junk=junk, seed=seed, overwrite=overwrite,
    )  # fmt: skip
    print(f"{made.count} particles -> {made.particles}")


def tomogram(
    maps: Path,
    out: Path,
    /,
    *,
    count: int = 300,
    size: Size = (96, 256, 256),
    spacing: float = 24.0,
    snr: float = 0.1,
    wedge: float = 90.0,
    defocus: float = 5e4,
    shift: float = 2.0,
    max_tilt: float = 180.0,
    voxel: float = 10.0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make a tomogram, its particle lists (RELION 4 and 5) and its truth table.

    Parameters
    ----------
    maps
        Folder of cubic maps named IDENTITY_STATE.mrc.
    out
        Folder to write.
    count
        Particles to place; fewer where they do not fit.
    size
        Of the tomogram, in voxels.
    spacing
        Smallest distance between particles, in voxels.
    snr
        Variance of the signal over variance of the noise, averaged over the boxes.
    wedge
        Highest tilt in degrees; 90 for no missing wedge.
    defocus
        In Angstrom; 0 for no contrast transfer function.
    shift
        Largest shift along each axis, in voxels.
    max_tilt
        Largest tilt of the particles, in degrees.
    voxel
        Voxel size in Angstrom.
    """
    from napari_disentangle.simulate import simulate_tomogram

    made = simulate_tomogram(
        maps, out, count=count, size=size, spacing=spacing, snr=snr, wedge=wedge, defocus=defocus, shift=shift,
        max_tilt=max_tilt, voxel=voxel, seed=seed, overwrite=overwrite,
    )  # fmt: skip
    print(f"{made.count} particles in {made.tomogram} -> {made.particles}")
