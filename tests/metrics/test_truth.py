"""The truth table: read by name, refused in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix
from napari_disentangle.metrics import read_truth

if TYPE_CHECKING:
    from pathlib import Path

ROWS = (
    "particle,identity,state,rot,tilt,psi,shift_x,shift_y,shift_z\n7,spike,6vxx,10,20,30,1,-2,0.5\n3,junk,junk,,,,,,\n"
)


def test_reads_what_simulate_writes(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(ROWS)
    table = read_truth(path)
    assert len(table) == 2
    assert table.ids.tolist() == [7, 3]
    assert table.identity.tolist() == ["spike", "junk"]
    assert table.state.tolist() == ["6vxx", "junk"]
    assert table.rotations is not None
    assert table.shifts is not None
    np.testing.assert_allclose(table.rotations[0], euler_to_matrix([10, 20, 30]))
    np.testing.assert_allclose(table.shifts[0], [1, -2, 0.5])
    assert np.isnan(table.rotations[1]).all()
    assert np.isnan(table.shifts[1]).all()


def test_poses_and_states_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("identity,particle,score\nspike,0,1\njunk,1,2\n")
    table = read_truth(path)
    assert table.rotations is None
    assert table.shifts is None
    assert table.state.tolist() == ["", ""]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column particle and no column identity"),
        ("particle,state\n0,a\n", "no column identity"),
        ("particle,identity\n", "no particles"),
        ("particle,identity\n0,a\n0,b\n", "particle 0 twice"),
        ("particle,identity\n0.5,a\n", "whole number"),
        ("particle,identity\n,a\n", '"" in column particle, line 2'),
        ("particle,identity,rot,tilt,psi\n0,a,1,2,x\n", '"x" in column psi, line 2'),
        ("\0\1\2", "truth"),
    ],
)
def test_broken_tables_are_refused_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as error:
        read_truth(path)
    assert str(path) in str(error.value)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv cannot be read"):
        read_truth(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_truth(tmp_path)
    (tmp_path / "map.mrc").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"comma-separated|no column"):
        read_truth(tmp_path / "map.mrc")
