"""Images in .npz files."""

from __future__ import annotations

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.io import describe, read_particles, require_boxes


@pytest.mark.parametrize("shape", [(9, 12, 12), (9, 12, 12, 3)])
@pytest.mark.parametrize("name", ["images", "whatever"])
def test_images_are_read(tmp_path, shape, name):
    data = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", **{name: data})
    found = read_particles(tmp_path / "a.npz")
    np.testing.assert_array_equal(require_boxes(found).read(np.array([7, 2])), data[[7, 2]].astype(np.float32))
    np.testing.assert_array_equal(found.ids, np.arange(9))
    assert found.voxel_size is None  # nothing is assumed
    assert found.notes == ()
    assert describe(tmp_path / "a.npz").kind == "images"
    assert read_particles(tmp_path / "a.npz", voxel_size=3.5).voxel_size == 3.5


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"a": np.zeros((3, 4, 4)), "b": np.zeros(3)}, 'holds a, b; call the array of images "images"'),
        ({"images": np.zeros((3, 4))}, r"float64 of shape \(3, 4\)"),
        ({"images": np.zeros((3, 4, 4), "U3")}, "<U3 of shape"),
        ({}, "holds nothing"),
    ],
)
def test_what_is_no_image(tmp_path, arrays, sentence):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=rf"a\.npz.*{sentence}"):
        read_particles(tmp_path / "a.npz")


def test_damage_and_pickle_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"a\.npz cannot be read"):
        read_particles(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match=r"b\.npz cannot be read"):
        read_particles(tmp_path / "b.npz")
