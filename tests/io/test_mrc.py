"""MRC files: every mode and kind read right, nothing half-written, and one sentence for what is wrong."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.io.mrc import MrcVolumes, open_map, read_header, write_volume, write_volume_stack

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)


def make(path: Path, data: np.ndarray, voxel: float | None = 4.0, **header: object) -> Path:
    """Write a file with mrcfile and set fields of its header."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(data)
        if voxel is not None:
            file.voxel_size = voxel
        for name, value in header.items():
            file.header[name] = value
    return path


@pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
def test_every_mode(tmp_path: Path, mode: int, dtype: str) -> None:
    data = RNG.integers(0, 100, (4, 5, 6)).astype(dtype)
    path = make(tmp_path / "a.mrc", data)
    assert int(mrcfile.open(path, header_only=True).header.mode) == mode
    header = read_header(path)
    assert (header.kind, header.shape, header.voxel_size, header.count, header.box) == (
        "volume",
        (4, 5, 6),
        4.0,
        1,
        (4, 5, 6),
    )
    assert np.array_equal(open_map(header), data)


def test_big_endian(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mrc", RNG.normal(size=(4, 5, 6)).astype(">f4"))
    assert open_map(read_header(path)).dtype == np.dtype(">f4")
    assert np.array_equal(open_map(read_header(path)), mrcfile.read(path))
    raw = bytearray(path.read_bytes())
    raw[212:216] = b"\0\0\0\0"
    path.write_bytes(raw)
    assert read_header(path).shape == (4, 5, 6)


def test_volume_and_stacks(tmp_path: Path) -> None:
    boxes = RNG.normal(size=(3, 4, 4, 4)).astype("f4")
    stack = read_header(make(tmp_path / "a.mrcs", boxes))
    assert (stack.kind, stack.shape, stack.count, stack.box) == ("volume stack", (3, 4, 4, 4), 3, (4, 4, 4))

    column = boxes.reshape(12, 4, 4)
    for name, header in {
        "mz": {"mz": 4, "ispg": 1},
        "401": {"mz": 12, "ispg": 401},
        "no mz": {"mz": 0, "ispg": 401},
    }.items():
        found = read_header(make(tmp_path / f"{name}.mrc", column, **header))
        assert (found.kind, found.shape) == ("volume stack", (3, 4, 4, 4)), name
        assert np.array_equal(open_map(found), boxes)

    with mrcfile.new(tmp_path / "images.mrcs") as file:
        file.set_data(column)
        file.set_image_stack()
    assert read_header(tmp_path / "images.mrcs").kind == "image stack"
    assert read_header(make(tmp_path / "b.mrcs", column)).kind == "image stack"
    assert read_header(make(tmp_path / "b.mrc", column)).kind == "volume"
    assert read_header(make(tmp_path / "c.mrcs", boxes[0])).kind == "volume"
    single = read_header(make(tmp_path / "one.mrc", column[0]))
    assert (single.kind, single.shape) == ("image stack", (1, 4, 4))


def test_voxel_sizes(tmp_path: Path) -> None:
    data = np.zeros((4, 4, 4), "f4")
    assert read_header(make(tmp_path / "0.mrc", data, voxel=None)).voxel_size is None
    assert read_header(make(tmp_path / "a.mrc", data, voxel=10.52)).voxel_size == 10.52
    cell = np.array((40, 40, 48), dtype=[("x", "f4"), ("y", "f4"), ("z", "f4")])
    with pytest.raises(InputError, match=r"10 x 10 x 12 A .* not cubic"):
        read_header(make(tmp_path / "b.mrc", data, cella=cell))
    assert read_header(make(tmp_path / "c.mrcs", data[:3], cella=cell, ispg=0)).voxel_size == 10.0


def test_nothing_of_mrcfile_leaks(tmp_path: Path) -> None:
    """A file of an old program without the name MAP and without a machine stamp is read without a word."""
    path = make(tmp_path / "old.mrc", np.zeros((4, 4, 4), "f4"))
    raw = bytearray(path.read_bytes())
    raw[208:216] = bytes(8)
    path.write_bytes(raw)
    assert read_header(path).shape == (4, 4, 4)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda _: b"", "is empty"),
        (lambda raw: raw[:500], "not an MRC file"),
        (lambda raw: raw[:-1], "truncated: its header promises 1,280 bytes and it has 1,279"),
        (lambda _: RNG.bytes(5000), "not an MRC file"),
        (lambda _: b"data_\n" + b" " * 5000, "not an MRC file"),
        (lambda raw: raw[:12] + b"\4\0\0\0" + raw[16:], "MRC mode 4; convert"),
        (lambda raw: raw[:64] + b"\3\0\0\0\2\0\0\0\1\0\0\0" + raw[76:], r"axes in the order \(3, 2, 1\)"),
        (lambda raw: raw[:208] + bytes(8) + raw[216:] + b"more", "not an MRC file"),
    ],
)
def test_spoilt_files(tmp_path: Path, spoil, words: str) -> None:
    path = make(tmp_path / "a.mrc", np.zeros((4, 4, 4), "f4"))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_header(tmp_path / "no.mrc")
    with pytest.raises(InputError, match="is a folder"):
        read_header(tmp_path)


def test_reading_rows_in_any_order_from_several_files(tmp_path: Path) -> None:
    boxes = RNG.normal(size=(5, 4, 4, 4)).astype("f4")
    stack = read_header(make(tmp_path / "a.mrcs", boxes[:3]))
    single = [read_header(make(tmp_path / f"{k}.mrc", boxes[k].astype("f4"))) for k in (3, 4)]
    volumes = MrcVolumes((stack, *single), np.array([0, 0, 0, 1, 2]), np.array([0, 1, 2, 0, 0]))
    assert volumes.shape == (5, 4, 4, 4)
    rows = np.array([4, 0, 3, 0, 2])
    assert np.array_equal(volumes.read(rows), boxes[rows])
    less = pickle.loads(pickle.dumps(volumes.subset(rows)))
    assert less.shape == (5, 4, 4, 4)
    assert np.array_equal(less.read(np.array([1, 0])), boxes[[0, 4]])
    assert less.read(np.array([0])).dtype == np.float32


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.mrcs"
    for value in (1.0, 2.0):
        write_volume_stack(path, np.full((2, 4, 4, 4), value), 5.0, overwrite=True)
        assert MrcVolumes.of_stack(read_header(path)).read(np.array([1])).max() == value


def test_integers_become_float32(tmp_path: Path) -> None:
    volumes = MrcVolumes.of_stack(read_header(make(tmp_path / "a.mrcs", np.full((2, 4, 4, 4), -3, "i2"))))
    assert volumes.read(np.array([1])).dtype == np.float32
    assert volumes.read(np.array([1])).min() == -3


@pytest.mark.parametrize("lazy", [False, True])
def test_written_stacks_are_valid(tmp_path: Path, lazy: bool) -> None:
    boxes = RNG.normal(2, 3, size=(5, 6, 6, 6)).astype("f4")
    path = tmp_path / "new" / "a.mrcs"
    assert write_volume_stack(path, (b for b in boxes) if lazy else boxes, 4.5) == 5
    with mrcfile.open(path) as file:
        assert np.array_equal(file.data, boxes)
        assert file.header.ispg == 401
        assert (file.header.nz, file.header.mz) == (30, 6)
        assert float(file.voxel_size.z) == 4.5
        assert np.isclose(file.header.dmean, boxes.mean())
        assert np.isclose(file.header.rms, boxes.std(), rtol=1e-4)
        assert (file.header.dmin, file.header.dmax) == (boxes.min(), boxes.max())
    assert read_header(path).voxel_size == 4.5


def test_written_volumes(tmp_path: Path) -> None:
    data = RNG.normal(size=(4, 5, 6))
    write_volume(tmp_path / "a.mrc", data, 3.2)
    header = read_header(tmp_path / "a.mrc")
    assert (header.kind, header.voxel_size) == ("volume", 3.2)
    assert np.array_equal(open_map(header), data.astype("f4"))


def test_nothing_half_written(tmp_path: Path) -> None:
    def boxes():
        yield np.zeros((4, 4, 4))
        raise RuntimeError("the tomogram is gone")

    with pytest.raises(RuntimeError):
        write_volume_stack(tmp_path / "a.mrcs", boxes(), 1.0)
    with pytest.raises(ValueError, match="no volumes"):
        write_volume_stack(tmp_path / "a.mrcs", [], 1.0)
    with pytest.raises(ValueError, match="shape"):
        write_volume_stack(tmp_path / "a.mrcs", [np.zeros((4, 4, 4)), np.zeros((5, 4, 4))], 1.0)
    assert list(tmp_path.iterdir()) == []


def test_existing_outputs_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        write_volume(path, np.zeros((4, 4, 4)), 1.0)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match="is a file, not a folder"):
        write_volume(path / "b.mrc", np.zeros((4, 4, 4)), 1.0)
    with pytest.raises(InputError, match="is a folder"):
        write_volume(tmp_path, np.zeros((4, 4, 4)), 1.0)
    write_volume(path, np.zeros((4, 4, 4)), 1.0, overwrite=True)
    assert read_header(path).shape == (4, 4, 4)


@pytest.mark.shared_data
def test_real_files(shared_data: Path) -> None:
    real = shared_data / "real"
    tomogram = read_header(real / "microtubules/relion_project/Tomograms/job_tomo/tomograms/13pf_MT.mrc")
    assert (tomogram.kind, tomogram.shape, tomogram.voxel_size) == ("volume", (36, 206, 94), 10.52)
    images = read_header(real / "spa/toy_projections.mrcs")
    assert (images.kind, images.shape) == ("image stack", (1000, 30, 30))
    assert MrcVolumes.of_stack(images).read(np.array([999, 0])).shape == (2, 30, 30)
