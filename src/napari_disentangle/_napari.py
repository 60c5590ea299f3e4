"""The samples, as napari calls them; the docks are in `gui.window`. napari.yaml names both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    LayerData = tuple[Any, dict[str, Any], str]

UNITS = "angstrom"
OURS = "napari-disentangle"


def sample_stack() -> list[LayerData]:
    """Return the packaged sample's labelled boxes as one (n, z, y, x) image layer, read as they are looked at."""
    from napari_disentangle import sample
    from napari_disentangle.io.mrc import open_map, read_header

    folder = sample.cached(sample.STACK)
    header = read_header(folder / "particles.mrcs")
    size = header.voxel_size
    image = {
        "name": "Labelled particles",
        # The first axis counts particles, which have no size in Angstrom.
        "scale": (1.0, size, size, size),
        "units": ("pixel", UNITS, UNITS, UNITS),
        "axis_labels": ("particle", "z", "y", "x"),
        "metadata": _about(folder) | {OURS: {
            "open": str(folder / "particles.star"), "diameter": sample.DIAMETER, "tilt_range": [-90, 90]
        }},
    }  # fmt: skip
    return [(open_map(header), image, "image")]


def sample_tomogram() -> list[LayerData]:
    """Return the packaged sample's tomogram as an image layer and its particles as a points layer."""
    from napari_disentangle import io, sample
    from napari_disentangle.io.mrc import open_map, read_header

    folder = sample.cached(sample.TOMOGRAM)
    header = read_header(folder / "tomogram.mrc")
    positions = io.read_particles(folder / "optimisation_set.star").positions
    assert header.voxel_size is not None, "the sample says its voxel size"
    assert positions is not None, "the sample's list has coordinates"
    about = _about(folder) | {OURS: {"open": str(folder / "optimisation_set.star"), "diameter": sample.DIAMETER}}
    image = {"name": "Tomogram", **_in_space(header.voxel_size), "metadata": about}
    points = {
        "name": "Particles",
        **_in_space(1.0),
        "size": sample.DIAMETER,
        "face_color": "transparent",
        "border_color": "orange",
        # A particle shows in every slice that cuts its sphere, smaller towards its ends.
        "projection_mode": "rescale_spherical",
        "metadata": about,
    }
    return [(open_map(header), image, "image"), (positions[:, ::-1].copy(), points, "points")]


def _about(folder: Path) -> dict[str, Any]:
    return {"particles": str(folder / "particles.star"), "truth": str(folder / "truth.csv")}


def _in_space(scale: float) -> dict[str, Any]:
    return {"scale": (scale,) * 3, "units": (UNITS,) * 3, "axis_labels": ("z", "y", "x")}
