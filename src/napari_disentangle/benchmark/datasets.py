"""The data sets of the tables: each made once, by a function of a size and a seed, with a table of its truth."""

from __future__ import annotations

import csv
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np

from napari_disentangle.errors import InputError
from napari_disentangle.io.folder import new_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Images = NDArray[Any]

ABOUT = "about.json"
SEED = 0
"""Of every data set: seeds of rows are those of training."""
SHIFT = 0.1
"""Largest shift of images along an axis, as a fraction of their edge."""
SCALES = (0.8, 1.2)
TURN = 90.0
"""Largest rotation of digits, in degrees to both sides."""
GAIN = 0.7
"""Largest logarithm of a contrast."""
PROJECTION_SNR = 1.0
PIXEL = 10.0
"""Of the density maps and their projections, in A."""


@dataclass(frozen=True)
class Source:
    """How a data set is made."""

    dims: Literal[2, 3]
    size: int
    """How much there is, unless another size is asked for."""
    counts: str
    """What the size counts."""
    make: Callable[[Path, Path, int, np.random.Generator], dict[str, Any]]
    """Given DATA, the folder to fill, the size and a generator; returns what `Dataset` needs to know besides."""
    about: str
    """What it is, and what it stands in for; a sentence or two."""


@dataclass(frozen=True)
class Dataset:
    """Files of a data set that is there."""

    particles: Path
    truth: Path | None
    reading: dict[str, Any]
    """Keywords of `read_particles`."""
    symmetry: dict[str, str]
    """Point group of each identity's reference, where it has one."""


def dataset(name: str, data: Path, out: Path, *, size: int, seed: int = SEED) -> Dataset:
    """Return a data set, made first where it is not there yet.

    Parameters
    ----------
    name : str
        One of `SOURCES`.
    data : Path
        Folder of what it is made from: `mnist`, `linemod5`, `maps`, `real`.
    out : Path
        Folder that data sets are kept in.
    size : int
        What is counted is said by the source.
    seed : int

    Raises
    ------
    InputError
        What it is made from is missing or broken, or is less than `size`; or what was made is broken.
    """
    folder = out / f"{name}-{size}-{seed}"
    if not (folder / ABOUT).is_file():
        if not data.is_dir():
            raise InputError(f"{data} is not a folder; give the one that holds mnist, linemod5, maps and real.")
        with new_folder(folder, marker=ABOUT) as part:
            found = SOURCES[name].make(data, part, size, np.random.default_rng(seed))
            (part / ABOUT).write_text(json.dumps({"schema_version": 1, **found}, indent=1) + "\n", encoding="utf-8")
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / ABOUT} cannot be read ({error}); remove {folder}, and it is made again."
        ) from error
    reading: dict[str, Any] = about.get("reading", {})
    if "tilt_range" in reading:
        reading["tilt_range"] = tuple(reading["tilt_range"])
    truth = folder / about["truth"] if about.get("truth") else None
    return Dataset(folder / about["particles"], truth, reading, about.get("symmetry", {}))


def _mnist(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
    images, labels = _digits(data)
    rows = _some(images, size, "digits", rng)
    return _images(folder, images[rows], labels[rows])


def _mnist_affine(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
    images, labels = _digits(data)
    rows = _some(images, size, "digits", rng)
    return _images(folder, _moved(images[rows], rng), labels[rows])


def _mnist_affine_one(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
    images, labels = _digits(data)
    order = rng.permutation(len(images))
    chosen = np.array([order[labels[order] == name][0] for name in np.unique(labels)])
    rows = rng.permutation(np.repeat(chosen, size))
    return _images(folder, _moved(images[rows], rng), labels[rows])


def _linemod(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
    images, labels = _objects(data)
    rows = _some(images, size, "rendered objects", rng)
    return _images(folder, images[rows], labels[rows])


def _rgb_contrast(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
    """Halve images, and enlarge or shrink their differences from their own mean; states are thirds of that."""
    images, labels = _objects(data)
    rows = _some(images, size, "rendered objects", rng)
    n = images.shape[1] // 2
    small = images[rows].reshape(len(rows), n, 2, n, 2, 3).mean((2, 4), dtype=np.float32) / 255
    gains = rng.uniform(-GAIN, GAIN, len(rows))
    mean = small.mean((1, 2, 3), keepdims=True)
    changed = mean + (small - mean) * np.exp(gains)[:, None, None, None].astype(np.float32)
    thirds = np.array(["faint", "plain", "strong"])[np.digitize(gains, [-GAIN / 3, GAIN / 3])]
    return _images(folder, changed, labels[rows], thirds)


def _spa(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
    from napari_disentangle.io import read_particles, require_boxes

    particles = read_particles(data / "real" / "spa" / "toy_projections.star")
    rows = np.sort(_some(particles.ids, size, "projections", rng))
    return _images(folder, require_boxes(particles).read(rows))


def _projections(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
    """Sum maps along z, turn them in their plane, shift them, and add white noise of one level."""
    from napari_disentangle.simulate.labels import read_maps

    maps = read_maps(data / "maps" / "trio")
    index = rng.permutation(np.repeat(np.arange(len(maps.data)), size))
    images = _moved(maps.data.sum(1)[index], rng, turn=180.0, scales=(1.0, 1.0), shift=2 / maps.box)
    images += rng.normal(0, np.sqrt(images.var((1, 2)).mean() / PROJECTION_SNR), images.shape).astype(np.float32)
    names, states = np.array(maps.identity)[index], np.array(maps.state)[index]
    return _images(folder, images, names, states) | {"reading": {"voxel_size": PIXEL}}


def _stack(maps: str, *, snr: float, wedge: float = 90.0, junk: float = 0.0) -> Callable[..., dict[str, Any]]:
    def make(data: Path, folder: Path, size: int, rng: np.random.Generator) -> dict[str, Any]:
        from napari_disentangle.simulate import simulate_stack

        seed = int(rng.integers(2**31))
        made = simulate_stack(
            data / "maps" / maps, folder / "stack", per=size, snr=snr, wedge=wedge, junk=junk, seed=seed
        )
        return {
            "particles": f"stack/{made.particles.name}",
            "truth": f"stack/{made.truth.name}",
            "reading": {"tilt_range": [-wedge, wedge]},
            "symmetry": _SYMMETRY.get(maps, {}),
        }

    return make


def _some(of: Sequence[Any] | NDArray[Any], size: int, what: str, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return so many rows at random, each once."""
    if size > len(of):
        raise InputError(f"There are {len(of)} {what}, not {size}; ask for that many or fewer with --size.")
    return rng.permutation(len(of))[:size]


_SYMMETRY = {"trio": {"groel-groes": "C7:z", "spike": "C3:z"}}


def _digits(data: Path) -> tuple[Images, NDArray[np.str_]]:
    images, labels = _arrays(data / "mnist" / "mnist.npz", "x_train", "y_train")
    return images, labels.astype(np.str_)


def _objects(data: Path) -> tuple[Images, NDArray[np.str_]]:
    """Return all rendered images (n, 64, 64, 3), coarse and fine views alike, and their objects' names."""
    names = ("objects", "coarse_img", "fine_img", "coarse_label", "fine_label")
    objects, coarse, fine, *labels = _arrays(data / "linemod5" / "linemod5_synth.npz", *names)
    return np.concatenate([coarse, fine]), objects.astype(np.str_)[np.concatenate(labels)]


def _arrays(path: Path, *names: str) -> list[NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [name for name in names if name not in stored.files]
            if missing:
                raise InputError(f"{path} has no array {', '.join(missing)}; copy it again from where it is kept.")
            return [stored[name] for name in names]
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; give the folder that holds mnist, linemod5, maps and real."
        ) from error
    except (OSError, EOFError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as .npz ({error}); copy it again from where it is kept.") from error


def _moved(
    images: Images, rng: np.random.Generator, *, turn: float = TURN, scales: tuple[float, float] = SCALES,
    shift: float = SHIFT,
) -> NDArray[np.float32]:  # fmt: skip
    """Return images (n, y, x) each turned, scaled and shifted at random, all uniformly."""
    import torch

    from napari_disentangle.geometry import sample_images

    n, edge = len(images), images.shape[-1]
    angle, scale = np.radians(rng.uniform(-turn, turn, n)), rng.uniform(*scales, n)
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    matrices = torch.from_numpy(np.stack([c, -s, s, c], -1).reshape(-1, 2, 2).astype(np.float32))
    shifts = torch.from_numpy((rng.uniform(-shift, shift, (n, 2)) * edge).astype(np.float32))
    step = 2048
    parts = [
        sample_images(torch.from_numpy(images[k : k + step].astype(np.float32)), matrices[k : k + step], shifts[k : k + step])
        for k in range(0, n, step)
    ]  # fmt: skip
    return torch.cat(parts).numpy()


def _images(
    folder: Path, images: Images, identities: Sequence[str] | NDArray[np.str_] | None = None,
    states: Sequence[str] | NDArray[np.str_] | None = None,
) -> dict[str, Any]:  # fmt: skip
    np.savez_compressed(folder / "images.npz", images=images)
    if identities is None:
        return {"particles": "images.npz", "truth": None}
    columns = {"particle": range(len(images)), "identity": identities} | ({} if states is None else {"state": states})
    with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return {"particles": "images.npz", "truth": "truth.csv"}


_FIVE = "Five molecules; stand-ins for the paper's five, which are not here."
_TRIO = (
    "Three molecules in six states each; stand-ins for the paper's proteins, which are not here, with fewer particles. "
    "The six states of GroEL-GroES are near-twins."
)


def _five(snr: float, **more: float) -> Source:
    return Source(3, 300, "particles of each map", _stack("five", snr=snr, **more), f"SNR {snr:g}. {_FIVE}")


SOURCES: Mapping[str, Source] = {
    "mnist": Source(2, 10_000, "images", _mnist, "Ordinary digits of MNIST's training set."),
    "mnist-affine-one": Source(
        2, 600, "transformed copies of each digit", _mnist_affine_one,
        f"The paper's kind: one image of each digit, each under random rotations (to {TURN:g} degrees both ways), shifts (to "
        f"{SHIFT:.0%} of the edge) and scales ({SCALES[0]:g} to {SCALES[1]:g}); the paper has 3,000 copies of each and does not say its ranges.",
    ),
    "mnist-affine": Source(
        2, 10_000, "images", _mnist_affine,
        "Ordinary digits, each under one random rotation, shift and scale of the same ranges: much harder than the paper's set.",
    ),
    "linemod": Source(
        2, 6_390, "images", _linemod,
        "Five rendered LineMod objects in colour, 64 x 64 pixels, trained at 32; the paper has more objects: a stand-in.",
    ),
    "rgb-contrast": Source(
        2, 5_000, "images", _rgb_contrast,
        "Five rendered LineMod objects at 32 x 32 pixels under random contrasts (0.5 to 2.0 times); states are thirds of its logarithm. A stand-in.",
    ),
    "trio": Source(3, 200, "particles of each map", _stack("trio", snr=100), f"SNR 100. {_TRIO}"),
    "trio-wedge": Source(3, 200, "particles of each map", _stack("trio", snr=100, wedge=60), f"Tilts to 60 degrees. {_TRIO}"),
    "trio-junk": Source(3, 200, "particles of each map", _stack("trio", snr=100, junk=0.3), f"30 % empty boxes. {_TRIO}"),
    "five-100": _five(100),
    "five-0.1": _five(0.1),
    "five-0.05": _five(0.05),
    "five-0.03": _five(0.03),
    "five-0.01": _five(0.01),
    "five-wedge": Source(
        3, 300, "particles of each map", _stack("five", snr=0.1, wedge=60), f"SNR 0.1, tilts to 60 degrees. {_FIVE}"
    ),
    "five-junk": Source(
        3, 300, "particles of each map", _stack("five", snr=0.1, junk=0.3), f"SNR 0.1, 30 % empty boxes. {_FIVE}"
    ),
    "spa": Source(
        2, 1_000, "images", _spa,
        "A stand-in for the paper's negative stain: toy projections of cryoDRGN's tests, of one molecule, without truth.",
    ),
    "projections": Source(
        2, 200, "particles of each map", _projections,
        f"A stand-in for the paper's 2D particles: maps of trio projected along z, SNR {PROJECTION_SNR:g}, any angle in the plane.",
    ),
}  # fmt: skip
