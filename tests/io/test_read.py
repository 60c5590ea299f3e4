"""Everything else that can be opened: stacks, CSV lists, extracted folders, real projects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from lists import boxes, coordinates, write_map, write_star

from napari_disentangle.errors import InputError
from napari_disentangle.io import Description, describe, read_particles, require_boxes
from napari_disentangle.io.extract import extract

if TYPE_CHECKING:
    from pathlib import Path


class TestStacks:
    def test_a_bare_stack(self, tmp_path: Path) -> None:
        data = boxes(4)
        particles = read_particles(write_map(tmp_path / "s.mrcs", data, 7.5))
        assert particles.ids.tolist() == [0, 1, 2, 3]
        assert (particles.voxel_size, particles.text, particles.original) == (7.5, None, None)
        assert np.array_equal(require_boxes(particles).read(np.array([2])), data[[2]])
        given = read_particles(tmp_path / "s.mrcs", voxel_size=9.0, tilt_range=(-60, 50))
        assert given.voxel_size == 9.0
        assert "instead of 7.5 A" in given.notes[0]
        assert given.tilt_ranges().tolist() == [[-60, 50]] * 4

    def test_a_voxel_size_of_0_is_asked_for(self, tmp_path: Path) -> None:
        path = write_map(tmp_path / "s.mrcs", boxes(2), 0)
        with pytest.raises(InputError, match="give --voxel-size"):
            require_boxes(read_particles(path))
        assert read_particles(path, voxel_size=3.0).voxel_size == 3.0

    def test_images(self, tmp_path: Path) -> None:
        particles = read_particles(write_map(tmp_path / "i.mrcs", boxes(1)[0][:5]))
        assert particles.volumes.shape == (5, 6, 6)
        assert describe(tmp_path / "i.mrcs").kind == "images"

    def test_one_volume_is_no_stack(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="single volume of 6 x 6 x 6 voxels"):
            read_particles(write_map(tmp_path / "v.mrc", boxes(1)[0]))

    def test_boxes_that_are_no_cubes(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="boxes of 6 x 6 x 8 voxels"):
            read_particles(write_map(tmp_path / "s.mrcs", np.zeros((2, 6, 6, 8))))


class TestCsv:
    TEXT = "id,x,y,z,rot,tilt,psi,class\n p1,4,5,6,10,20,30,a\n\np2,7.5,8,9,0,0,90,b\n"

    def test_voxels_of_the_tomogram(self, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text(self.TEXT)
        volume = write_map(tmp_path / "v.mrc", np.zeros((20, 30, 40)), 8.0)
        particles = read_particles(tmp_path / "p.csv", tomogram=volume)
        assert np.allclose(particles.positions, np.array([[4, 5, 6], [7.5, 8, 9]]) * 8)
        assert particles.text == self.TEXT
        assert particles.pose is not None

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "is empty"),
            ("x,y\n1,2\n", "no column z"),
            ("x,y,z\n", "no particles"),
            ("x,y,z\n1,2\n", "line 2: the row has 2 values for 3 columns"),
            ("x,y,z\n1,2,three\n", "no number"),
        ],
    )
    def test_bad_lists(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "p.csv").write_text(text)
        volume = write_map(tmp_path / "v.mrc", np.zeros((20, 30, 40)), 8.0)
        with pytest.raises(InputError, match=words):
            read_particles(tmp_path / "p.csv", tomogram=volume)


class TestExtracted:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        volume = write_map(tmp_path / "v.mrc", np.random.default_rng(0).normal(size=(24, 24, 24)), 10.0)
        xyz = np.array([[12.25, 12, 12], [1, 12, 12], [10, 11, 12.5], [12, 14, 9]])
        table = {
            "rlnTomoName": ["t"] * 4,
            **coordinates(xyz),
            "rlnTomoTiltSeriesPixelSize": [10.0] * 4,
            **{f"rlnAngle{k}": [10.0, 20.0, 30.0, 40.0] for k in ("Rot", "Tilt", "Psi")},
            "rlnRandomSubset": [1, 2, 1, 2],
        }
        path = write_star(tmp_path / "p.star", particles=table)
        particles = read_particles(path, tomogram=volume, tilt_range=(-60, 40))
        extract(particles, tmp_path / "out", box=8, edge="skip")
        return tmp_path / "out"

    def test_original_rows_come_back(self, out: Path) -> None:
        original = read_particles(out.parent / "p.star", tomogram=out.parent / "v.mrc")
        for path in (out, out / "particles.star"):
            particles = read_particles(path)
            assert particles.ids.tolist() == [0, 2, 3]
            assert particles.original == out.parent / "p.star"
            assert particles.text == (out.parent / "p.star").read_text()
            assert require_boxes(particles).shape == (3, 8, 8, 8)
            assert particles.voxel_size == 10.0
            assert particles.halves.tolist() == [1, 1, 2]
            assert particles.tilt_ranges().tolist() == [[-60, 40]] * 3
            assert particles.tomograms[0].path == out.parent / "v.mrc"
            assert np.allclose(particles.positions, original.positions[[0, 2, 3]], atol=1e-4)
            assert np.allclose(particles.pose.rotations, original.pose.rotations[[0, 2, 3]], atol=1e-6)
            assert np.allclose(particles.pose.offsets[0], [2.5, 0, 0], atol=1e-4)

    def test_the_optimisation_set_is_remembered(self, tmp_path: Path) -> None:
        write_map(tmp_path / "v.mrc", np.random.default_rng(0).normal(size=(24, 24, 24)), 10.0)
        write_star(tmp_path / "p.star", particles={"rlnTomoName": ["t"], **coordinates(np.full((1, 3), 12.0))})
        table = {"rlnTomoName": ["t"], "rlnTomoTiltSeriesPixelSize": [10.0], "rlnTomoReconstructedTomogram": ["v.mrc"]}
        write_star(tmp_path / "tomograms.star", **{"global": table})
        path = write_star(
            tmp_path / "set.star", set={"rlnTomoParticlesFile": "p.star", "rlnTomoTomogramsFile": "tomograms.star"}
        )
        before = read_particles(path)
        extract(before, tmp_path / "out", box=8)
        after = read_particles(tmp_path / "out")
        assert (after.optimisation_set, after.tomograms_file) == (path, tmp_path / "tomograms.star")
        assert (after.original, after.project) == (tmp_path / "p.star", tmp_path)

    def test_damaged_folders(self, out: Path) -> None:
        record = json.loads((out / "extraction.json").read_text())
        (out / "extraction.json").write_text(json.dumps({**record, "ids": record["ids"][:2]}))
        with pytest.raises(InputError, match=r"lists 3 boxes and .* 2; extract the particles again"):
            read_particles(out)
        (out / "extraction.json").write_text(json.dumps({**record, "schema_version": 99}))
        with pytest.raises(InputError, match="newer"):
            read_particles(out)
        (out / "extraction.json").write_text(json.dumps(record))
        (out / "particles.mrcs").unlink()
        with pytest.raises(InputError, match="has lost its boxes"):
            read_particles(out)


class TestDescribe:
    def test_json_and_text(self, tmp_path: Path) -> None:
        found = describe(write_map(tmp_path / "s.mrcs", boxes(4), 7.5), tilt_range=(-60, 60))
        again = Description.model_validate_json(found.model_dump_json())
        assert again == found
        assert (found.schema_version, found.kind, found.particles, found.shape) == (1, "boxes", 4, (6, 6, 6))
        assert str(found).splitlines()[0].endswith("4 particles in boxes of 6 x 6 x 6 voxels, 7.5 A per voxel")
        assert "tilt range: -60 to 60 degrees" in str(found)

    def test_a_volume(self, tmp_path: Path) -> None:
        found = describe(write_map(tmp_path / "v.mrc", np.zeros((4, 5, 6)), 0))
        assert (found.kind, found.shape, found.voxel_size) == ("volume", (4, 5, 6), None)
        assert "one volume of 4 x 5 x 6 voxels (z, y, x), voxel size not known" in str(found)

    def test_lists_without_boxes(self, tmp_path: Path) -> None:
        path = write_star(tmp_path / "p.star", particles={"rlnImageName": ["1@gone.mrcs"]})
        assert describe(path).kind == "list"
        assert "1 particle, but not their boxes" in str(describe(path))
        write_star(path, particles={**coordinates(np.ones((2, 3))), "rlnRandomSubset": [1, 2]})
        assert describe(path).halves == (1, 1)
        assert "2 positions of particles, no boxes yet" in str(describe(path))

    def test_errors_stay_errors(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="does not exist"):
            describe(tmp_path / "no.mrc")


@pytest.mark.shared_data
class TestRealFiles:
    def test_every_list_is_described_or_refused_in_a_sentence(self, shared_data: Path) -> None:
        kinds: list[str] = []
        refused: list[str] = []
        for path in (*(shared_data / "coords").rglob("*.star"), *(shared_data / "real").rglob("*.star")):
            try:
                kinds.append(describe(path).kind)
            except InputError as error:
                refused.append(str(error))
        assert refused
        assert all(str(shared_data) in message and message.endswith(".") for message in refused)
        assert {"boxes"} & set(kinds) == set(), "none of these has 3D boxes"
        assert kinds.count("tomograms") == 16
        assert kinds.count("positions") > 10

    def test_sizes_of_the_microtubule_project(self, shared_data: Path) -> None:
        path = shared_data / "real/microtubules/relion_project/Picks/job_picks/optimisation_set.star"
        with pytest.raises(
            InputError, match=r"TS_01 is 84 x 136 x 44 .* 94 x 206 x 36 .*\(then 3 of its 3 .*\(2 lie inside\)"
        ):
            read_particles(path)
        particles = read_particles(path, size_from="volume")
        px = 10.52
        expected = np.array([-176.94, 765.48005, 11.16]) + np.array([94, 206, 36]) / 2 * px
        assert np.allclose(particles.positions[0], expected)
        fits = np.array([-58.030014, 386.650021, 9.08]) + np.array([84, 136, 44]) / 2 * px
        assert np.allclose(particles.positions[3], fits)
        assert np.allclose(read_particles(path, size_from="star").positions[3], fits)
        assert [t.tilt_range for t in particles.tomograms] == [(-60.1, 59.9), (-60.0, 60.0)]
        assert particles.project == shared_data / "real/microtubules/relion_project"

    def test_cylindra(self, shared_data: Path) -> None:
        jobs = shared_data / "coords/cylindra_relion5/tests/test_jobs"
        refined = read_particles(jobs / "Refine3D/job_refine/run_it050_optimisation_set.star")
        assert refined.tomograms[0].path is None
        assert refined.halves.tolist() == [1, 2, 1, 1, 1]
        assert "which is not in its folder" in refined.no_boxes
        c, o = np.array([-176.94, 765.48005, 11.16]), np.array([-2.41904, 2.498456, -6.78404])
        assert np.allclose(refined.positions[0], c + np.array([84, 136, 44]) / 2 * 10.52 - o)
        classes = read_particles(jobs / "Class3D/job_class3d/run_it025_optimisation_set.star")
        assert "2D-stack" in classes.no_boxes
        assert classes.prior.shape == (10, 2)
        with pytest.raises(InputError, match="extract from the tomograms instead"):
            require_boxes(classes)

    def test_warp(self, shared_data: Path) -> None:
        name = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12_optimisation_set.star"
        particles = read_particles(shared_data / "coords/warp" / name)
        assert [t.name for t in particles.tomograms][:2] == ["Unt_083.tomostar", "Unt_050.tomostar"]
        low, high = particles.tomograms[0].tilt_range
        assert (low, high) == pytest.approx((-75.66, 47.10), abs=0.01)
        assert particles.tomograms[0].defocus == pytest.approx(28725, abs=5)
        assert "--coordinate-pixel 12" in " ".join(particles.notes)
        assert np.allclose(
            particles.positions[0, 0] / 1.667, float(particles.text.split("Unt_083.tomostar")[1].split()[1])
        )

    def test_simulated_stack_and_images(self, shared_data: Path) -> None:
        images = read_particles(shared_data / "real/spa/relion31.star")
        assert images.volumes.shape == (5, 256, 256)
        assert images.voxel_size == pytest.approx(2.806)
