"""Subsets of particle lists: the rows chosen, token for token, and nothing else changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_disentangle.io.subset as subset_module
from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles
from napari_disentangle.io.mrc import write_volume_stack
from napari_disentangle.io.star import StarFile
from napari_disentangle.io.subset import write_optimisation_set, write_subset

if TYPE_CHECKING:
    from pathlib import Path

LIST = """
# version 50001

data_general

_rlnTomoSubTomosAre2DStacks                       0

# version 50001

data_optics

loop_
_rlnOpticsGroup #1
_rlnTomoTiltSeriesPixelSize #2
           1     1.350000

# version 50001

data_particles

loop_
_rlnTomoName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnCoordinateZ #4
_rlnOriginXAngst #5
_rlnOpticsGroup #6
0012   101.5    30.0  40.00   -7.04404e-04   1
0012   102.5    31.0  41.00   0.000000       1
0013   103.5    32.0  42.00   1e2            1
0013   104.5    33.0  43.00   'quoted'       1
"""


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "project/Picks/picks.star"
    path.parent.mkdir(parents=True)
    path.write_text(LIST.replace("'quoted'", "-0.0"))
    return path


def test_rows_and_everything_around_them(listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "subset.star"
    write_subset(read_particles(listed), [3, 0], out)
    gone = [line for line in listed.read_text().splitlines(keepends=True) if "102.5" in line or "103.5" in line]
    expected = listed.read_text()
    for line in gone:
        expected = expected.replace(line, "")
    assert out.read_text() == expected


def test_ids_are_rows_of_the_original_also_of_a_subset(listed: Path, tmp_path: Path) -> None:
    particles = read_particles(listed).subset(np.array([2, 3]))
    write_subset(particles, particles.ids, tmp_path / "subset.star")
    assert StarFile.read(tmp_path / "subset.star").block("particles").column("rlnCoordinateX") == ["103.5", "104.5"]


def test_columns_are_appended(listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "subset.star"
    write_subset(read_particles(listed), [0, 2], out, columns={"rlnClassNumber": ["1", "2"]})
    block = StarFile.read(out).block("particles")
    assert block.columns[-1] == "rlnClassNumber"
    assert block.column("rlnClassNumber") == ["1", "2"]
    assert block.column("rlnOriginXAngst") == ["-7.04404e-04", "1e2"]
    with pytest.raises(InputError, match="_rlnTomoName already"):
        write_subset(read_particles(listed), [0], tmp_path / "b.star", columns={"rlnTomoName": ["1"]})
    with pytest.raises(ValueError, match="1 values of a for 2 particles"):
        write_subset(read_particles(listed), [0, 1], tmp_path / "b.star", columns={"a": ["1"]})
    assert not (tmp_path / "b.star").exists()


@pytest.mark.shared_data
@given(data=st.data())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_real_lists_token_for_token(shared_data: Path, tmp_path: Path, data: st.DataObject) -> None:
    names = (
        "coords/chlamy/hsp60.star",
        "coords/warp/10076_both_32_sim_vols.star",
        "coords/cylindra_relion5/tests/test_jobs/Refine3D/job_refine/run_it050_data.star",
        "coords/cylindra_relion5/tests/test_jobs/Class3D/job_class3d/run_it025_data.star",
        "coords/relion/relion31.6opticsgroups.star",
        "coords/warp/warptools_test_4-tomos_10-ptcls_box-32_angpix-12.star",
    )
    particles = read_particles(shared_data / data.draw(st.sampled_from(names)))
    ids = data.draw(st.sets(st.integers(0, len(particles) - 1), min_size=1))
    write_subset(particles, ids, tmp_path / "out.star", overwrite=True)
    original = particles.text.splitlines(keepends=True)
    written = (tmp_path / "out.star").read_bytes().decode().splitlines(keepends=True)
    kept = iter(original)
    assert all(line in kept for line in written)
    assert len(original) - len(written) == len(particles) - len(ids)


def test_csv_lists(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"x,y,z,id\r\n1,2,3,a\r\n4,5,6,b\r\n\r\n7,8,9,c\r\n")
    particles = read_particles(tmp_path / "p.csv")
    write_subset(particles, [0, 2], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b"x,y,z,id\r\n1,2,3,a\r\n\r\n7,8,9,c\r\n"
    write_subset(particles, [1, 2], tmp_path / "new.csv", columns={"class": ["u", "v"]})
    assert (tmp_path / "new.csv").read_bytes() == b"x,y,z,id,class\r\n4,5,6,b,u\r\n\r\n7,8,9,c,v\r\n"
    with pytest.raises(InputError, match="column id already"):
        write_subset(particles, [0], tmp_path / "b.csv", columns={"id": ["u"]})


def test_a_bare_stack_gets_a_list_that_names_it(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(5, 6, 6, 6)).astype("f4")
    write_volume_stack(tmp_path / "stack.mrcs", data, 8.0)
    particles = read_particles(tmp_path / "stack.mrcs").subset(np.array([1, 4]))
    write_subset(particles, particles.ids, tmp_path / "new" / "subset.star")
    again = read_particles(tmp_path / "new" / "subset.star")
    assert again.voxel_size == 8.0
    assert np.array_equal(again.volumes.read(np.arange(2)), data[[1, 4]])
    assert (
        StarFile.read(tmp_path / "new/subset.star").block("particles").column("rlnImageName")[0]
        == f"000002@{tmp_path}/stack.mrcs"
    )


def test_refusals(listed: Path, tmp_path: Path) -> None:
    particles = read_particles(listed)
    out = tmp_path / "subset.star"
    with pytest.raises(InputError, match="no particles to write"):
        write_subset(particles, [], out)
    with pytest.raises(InputError, match="has 4 rows, and particle 4 is not one"):
        write_subset(particles, [0, 4], out)
    out.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_subset(particles, [0], out)
    assert out.read_text() == "mine"
    with pytest.raises(InputError, match="is a file, not a folder"):
        write_subset(particles, [0], out / "b.star")
    write_subset(particles, [0], out, overwrite=True)
    assert "101.5" in out.read_text()


def test_what_was_written_is_compared(listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = subset_module.write_text
    monkeypatch.setattr(
        subset_module, "write_text", lambda path, text, **k: write(path, text.replace("-7.04404e-04", "-0.000704"), **k)
    )
    with pytest.raises(InputError, match="would not hold the original rows"):
        write_subset(read_particles(listed), [0], tmp_path / "subset.star")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["project"]


TABLE = """
data_global

loop_
_rlnTomoName
_rlnTomoTiltSeriesPixelSize
_rlnTomoSizeX
_rlnTomoSizeY
_rlnTomoSizeZ
0012 1.35 400 400 200
0013 1.35 400 400 200
"""


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    "text",
    [
        "# version 50001\n\ndata_\n\n_rlnTomoParticlesFile   Picks/picks.star\n_rlnTomoTomogramsFile  tomograms.star\n"
        '_rlnTomoTrajectoriesFile            ""\n',
        "data_optimisation_set\n\nloop_\n_rlnTomoTomogramsFile #1\n_rlnTomoParticlesFile #2\ntomograms.star\tPicks/picks.star\n",
        "data_\n_rlnTomoParticlesFile 'Picks/picks.star'\n_rlnTomoTomogramsFile tomograms.star\n",
    ],
)
def test_optimisation_sets(tmp_path: Path, text: str) -> None:
    project = tmp_path / "project"
    (project / "tomograms.star").write_text(TABLE)
    path = project / "optimisation_set.star"
    path.write_text(text)
    particles = read_particles(path)
    write_subset(particles, [1], project / "Select/subset.star")
    assert write_optimisation_set(project / "Select/optimisation_set.star", particles, project / "Select/subset.star")
    new = (project / "Select/optimisation_set.star").read_text()
    assert new == text.replace("'", "").replace("Picks/picks.star", "Select/subset.star")
    again = read_particles(project / "Select/optimisation_set.star")
    assert len(again) == 1
    assert np.allclose(again.positions, particles.positions[[1]])
    assert again.tomograms[0] == particles.tomograms[0]


def test_an_optimisation_set_elsewhere_names_absolute_paths(listed: Path, tmp_path: Path) -> None:
    table = tmp_path / "project/tomograms.star"
    table.write_text(TABLE)
    particles = read_particles(listed, tomograms=table)
    write_subset(particles, [1], tmp_path / "elsewhere/subset.star")
    assert write_optimisation_set(tmp_path / "elsewhere/set.star", particles, tmp_path / "elsewhere/subset.star")
    assert np.allclose(read_particles(tmp_path / "elsewhere/set.star").positions, particles.positions[[1]])
    assert not write_optimisation_set(tmp_path / "set.star", read_particles(listed), tmp_path / "elsewhere/subset.star")
    assert not (tmp_path / "set.star").exists()
