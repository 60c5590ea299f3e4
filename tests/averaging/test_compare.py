"""An average beside a map of another voxel size, box and place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
from molecules import VOXEL, molecule, place

from napari_disentangle.averaging import compare
from napari_disentangle.averaging.points import sphere
from napari_disentangle.errors import InputError
from napari_disentangle.fourier import resampled
from napari_disentangle.geometry import random_rotations
from napari_disentangle.io.mrc import write_volume, write_volume_stack

if TYPE_CHECKING:
    from pathlib import Path


def test_a_map_is_turned_onto_the_average(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    average = molecule() + rng.standard_normal((20, 20, 20)).astype(np.float32) * 0.02
    given = place(resampled(molecule(), 32, 0.7), random_rotations(1, rng), np.array([[1.0, -0.5, 1.5]]))[0]
    write_volume(tmp_path / "given.mrc", given, 0.7 * VOXEL)
    found = compare(average, VOXEL, tmp_path / "given.mrc", diameter=160)
    inside = sphere(20, 8) > 0
    assert found.correlation > 0.97
    assert np.corrcoef(found.volume[inside], molecule()[inside])[0, 1] > 0.97
    assert found.frequency[-1] == pytest.approx(1 / (2 * VOXEL))
    assert len(found.fsc) == len(found.frequency) == 11
    assert found.resolution_A is not None
    assert 2 * VOXEL <= found.resolution_A < 40

    # The other hand, and another molecule, are told apart from it.
    write_volume(tmp_path / "mirror.mrc", np.ascontiguousarray(given[..., ::-1]), 0.7 * VOXEL)
    assert compare(average, VOXEL, tmp_path / "mirror.mrc", diameter=160).correlation < found.correlation - 0.02


def test_a_map_of_imod_is_a_map(tmp_path: Path) -> None:
    write_volume(tmp_path / "map.rec", molecule(), VOXEL)
    with mrcfile.open(tmp_path / "map.rec", mode="r+") as file:
        file.header.ispg = 0
    assert compare(molecule(), VOXEL, tmp_path / "map.rec", diameter=160).correlation > 0.99


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    write_volume_stack(tmp_path / "stack.mrcs", [molecule()] * 2, VOXEL)
    with pytest.raises(InputError, match=r"stack\.mrcs is a stack, not one map"):
        compare(molecule(), VOXEL, tmp_path / "stack.mrcs")
    write_volume(tmp_path / "empty.mrc", np.zeros((20, 20, 20), np.float32), VOXEL)
    with pytest.raises(InputError, match=r"empty\.mrc holds no density"):
        compare(molecule(), VOXEL, tmp_path / "empty.mrc")
    with pytest.raises(InputError, match="does not exist"):
        compare(molecule(), VOXEL, tmp_path / "none.mrc")


def test_another_box_and_other_voxels_keep_the_centre() -> None:
    wide = resampled(molecule(), 30, 1.0)
    np.testing.assert_allclose(wide[5:25, 5:25, 5:25], molecule(), atol=1e-5)
    assert np.abs(wide[0]).max() < 1e-5, "nothing is repeated beyond the map"
    uneven = resampled(molecule()[:, 2:18, 4:16], 20, 1.0)
    np.testing.assert_allclose(uneven[5:15, 5:15, 5:15], molecule()[5:15, 5:15, 5:15], atol=1e-5)
    finer = resampled(molecule(), 40, 0.5)
    np.testing.assert_allclose(finer[::2, ::2, ::2], molecule(), atol=1e-4)
