"""A small labelled sample, made on the spot from the maps that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_disentangle.io.folder import new_folder
from napari_disentangle.simulate import SimulatedStack, SimulatedTomogram, simulate_stack, simulate_tomogram

MAPS = Path(__file__).parent / "data" / "maps"
"""Density maps of three molecules in two states each; `README.md` beside them says where they are from."""

MARKER = "README.txt"
SEED = 7
STACK, TOMOGRAM, REFERENCES = "stack", "tomogram", "maps"
DIAMETER = 200.0
"""In A: boxes of 1.6 times this are the 32 voxels that the sample was made in."""


@dataclass(frozen=True)
class Sample:
    """Files of the sample."""

    folder: Path
    stack_star: Path
    """List of 360 boxes, RELION; SNR 0.1 and no missing wedge."""
    stack_truth: Path
    tomogram_mrc: Path
    """Of about 100 particles, tilts from -60 to 60 degrees."""
    tomogram_star: Path
    """List of their positions, RELION 5."""
    optimisation_set: Path
    tomogram_truth: Path
    maps: Path
    """Folder of the density maps that both were made from."""


def write_sample(out: Path, *, overwrite: bool = False) -> Sample:
    """Write the whole sample: a stack, a tomogram with its lists, the truth about both, and the maps.

    It takes a few seconds, and every call writes the same.

    Raises
    ------
    InputError
        `out` exists, or cannot be written.
    """
    with new_folder(out, marker=MARKER, overwrite=overwrite) as folder:
        write_sample_stack(folder / STACK)
        write_sample_tomogram(folder / TOMOGRAM)
        _copy_maps(folder / REFERENCES)
        (folder / MARKER).write_text(_ABOUT, encoding="utf-8")
    return Sample(
        folder=out,
        stack_star=out / STACK / "particles.star",
        stack_truth=out / STACK / "truth.csv",
        tomogram_mrc=out / TOMOGRAM / "tomogram.mrc",
        tomogram_star=out / TOMOGRAM / "particles.star",
        optimisation_set=out / TOMOGRAM / "optimisation_set.star",
        tomogram_truth=out / TOMOGRAM / "truth.csv",
        maps=out / REFERENCES,
    )


def write_sample_stack(out: Path, *, overwrite: bool = False) -> SimulatedStack:
    """Write the sample's labelled stack alone; see `Sample`. Errors as `write_sample`."""
    return simulate_stack(MAPS, out, per=60, snr=0.1, seed=SEED, overwrite=overwrite)


def write_sample_tomogram(out: Path, *, overwrite: bool = False) -> SimulatedTomogram:
    """Write the sample's tomogram and its lists alone; see `Sample`. Errors as `write_sample`."""
    return simulate_tomogram(
        MAPS, out, count=100, size=(64, 224, 224), snr=0.1, wedge=60.0, seed=SEED, overwrite=overwrite
    )


def sample_folder() -> Path:
    """Return where the sample of this version is written once, and found again: in the user's cache."""
    from platformdirs import user_cache_path

    import napari_disentangle

    return user_cache_path("napari-disentangle", appauthor=False) / f"sample-{napari_disentangle.__version__}"


def cached(part: str) -> Path:
    """Return the folder of the sample's "stack" or "tomogram", written first if it is not there yet."""
    folder = sample_folder() / part
    if not folder.exists():
        (write_sample_stack if part == STACK else write_sample_tomogram)(folder)
    return folder


def _copy_maps(folder: Path) -> None:
    """Copy the maps as float32, which every program reads; the package keeps them in half the bytes."""
    from napari_disentangle.io.mrc import open_map, read_header, write_volume

    folder.mkdir()
    for path in sorted(MAPS.glob("*.mrc")):
        header = read_header(path)
        assert header.voxel_size is not None
        write_volume(folder / path.name, open_map(header), header.voxel_size)


_ABOUT = """\
Sample of napari-disentangle: simulated particles of three molecules in two states each, 10 A per voxel.

stack/     360 boxes of 32 voxels, SNR 0.1, nothing missing: particles.star, truth.csv
tomogram/  a small tomogram, tilts from -60 to 60 degrees: optimisation_set.star (RELION 5), truth.csv
maps/      the density maps that both were made from, computed from PDB entries (CC0)

Written by `napari_disentangle.sample.write_sample`; a folder with this file in it may be overwritten by it.
"""
