"""Particle lists: poses, boxes and paths, and one sentence for what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from lists import ANGLES, CORNERS, FRAMES, ORIGINS, boxes, coordinates, matrices, picks, project, write_map, write_star

from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles, require_boxes

if TYPE_CHECKING:
    from pathlib import Path


class TestPoses:
    def test_without_boxes_in_the_frame_of_the_tomogram(self, tmp_path: Path) -> None:
        particles = read_particles(picks(tmp_path, CORNERS, **ANGLES, **FRAMES, **ORIGINS), tomograms=project(tmp_path))
        assert particles.pose is not None
        assert np.allclose(particles.pose.rotations, matrices(FRAMES) @ matrices(ANGLES))
        assert not particles.pose.offsets.any()
        assert particles.frames is None

    def test_with_boxes_in_the_frame_of_the_box(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(2))
        names = {"rlnImageName": ["1@s.mrcs", "2@s.mrcs"]}
        particles = read_particles(write_star(tmp_path / "p.star", particles={**names, **ANGLES, **FRAMES, **ORIGINS}))
        assert particles.pose is not None
        assert np.allclose(particles.pose.rotations, matrices(ANGLES))
        assert np.allclose(particles.pose.offsets, -np.array([[1, 2, -3], [0, -4, 0.5]]))
        assert np.allclose(particles.frames, matrices(FRAMES))

    def test_priors_are_in_the_frame_of_the_poses(self, tmp_path: Path) -> None:
        """Of picks they are turned by A_sub, as poses are: the particle's z axis is that of tilt and psi either way."""
        priors = {"rlnAngleTiltPrior": ANGLES["rlnAngleTilt"], "rlnAnglePsiPrior": ANGLES["rlnAnglePsi"]}
        of_picks = read_particles(picks(tmp_path, CORNERS, **ANGLES, **FRAMES, **priors), tomograms=project(tmp_path))
        write_map(tmp_path / "s.mrcs", boxes(2))
        table = {"rlnImageName": ["1@s.mrcs", "2@s.mrcs"], **ANGLES, **FRAMES, **priors}
        of_boxes = read_particles(write_star(tmp_path / "p.star", particles=table))
        for found in (of_picks, of_boxes):
            assert found.pose is not None
            assert found.prior_pose is not None
            assert np.allclose(found.prior_pose.rotations[:, :, 2], found.pose.rotations[:, :, 2], atol=1e-6)
        assert not np.allclose(of_picks.pose.rotations, of_boxes.pose.rotations)

    def test_frames_alone_are_no_poses_and_it_is_said(self, tmp_path: Path) -> None:
        found = read_particles(picks(tmp_path, CORNERS, **FRAMES), tomograms=project(tmp_path))
        assert found.pose is None
        assert "not all of rlnAngleRot" in " ".join(found.notes)

    def test_one_angle_is_no_pose(self, tmp_path: Path) -> None:
        path = picks(tmp_path, CORNERS, rlnAnglePsi=[1.0, 2.0])
        assert read_particles(path, tomograms=project(tmp_path)).pose is None

    def test_angles_of_0_are_no_poses(self, tmp_path: Path) -> None:
        particles = read_particles(picks(tmp_path, CORNERS, **{k: [0, 0] for k in ANGLES}), tomograms=project(tmp_path))
        assert particles.pose is None
        assert "not taken as poses" in " ".join(particles.notes)

    def test_origins_before_3_1_are_in_pixels(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(2), voxel=0)
        table = {"rlnImageName": ["1@s.mrcs", "2@s.mrcs"], **ANGLES, "rlnOriginX": [1, 0], "rlnOriginY": [0, 2]}
        path = write_star(tmp_path / "p.star", images=table)
        with pytest.raises(InputError, match=r"rlnOriginX in pixels .* --voxel-size"):
            read_particles(path)
        offsets = read_particles(path, voxel_size=4.0).pose.offsets
        assert np.allclose(offsets, [[-4, 0, 0], [0, -8, 0]])
        detector = {"rlnDetectorPixelSize": [5.0, 5.0], "rlnMagnification": [20000.0, 20000.0]}
        older = read_particles(write_star(tmp_path / "old.star", images={**table, **detector}))
        assert older.voxel_size == 2.5
        assert np.allclose(older.pose.offsets, [[-2.5, 0, 0], [0, -5, 0]])

    def test_halves_priors_and_defocus(self, tmp_path: Path) -> None:
        more = {
            "rlnRandomSubset": [2, 1],
            "rlnAngleTiltPrior": [90.0, 80.0],
            "rlnAnglePsiPrior": [1.0, 2.0],
            "rlnDefocusU": [30000.0, 20000.0],
            "rlnDefocusV": [32000.0, 20000.0],
        }
        particles = read_particles(picks(tmp_path, CORNERS, **more))
        assert particles.halves.tolist() == [2, 1]
        assert particles.prior.tolist() == [[90, 1], [80, 2]]
        assert particles.defocus.tolist() == [31000, 20000]
        other = read_particles(picks(tmp_path, CORNERS, rlnRandomSubset=[0, 1]))
        assert other.halves is None


class TestOptimisationSets:
    @pytest.mark.parametrize(
        "text",
        [
            'data_\n\n_rlnTomoParticlesFile  {p}\n_rlnTomoTomogramsFile  {t}\n_rlnTomoTrajectoriesFile ""\n',
            "data_optimisation_set\n\nloop_\n_rlnTomoParticlesFile #1\n_rlnTomoTomogramsFile #2\n{p}\t{t}\n",
        ],
    )
    def test_pairs_and_loop(self, tmp_path: Path, text: str) -> None:
        project(tmp_path)
        listed = picks(tmp_path, CORNERS)
        path = tmp_path / "Picks/job2/optimisation_set.star"
        path.write_text(text.format(p="Picks/job2/picks.star", t="Tomograms/job1/tomograms.star"))
        particles = read_particles(path)
        assert np.allclose(particles.positions, np.array(CORNERS) * 2.5)
        assert (particles.path, particles.original, particles.project) == (path, listed, tmp_path)
        assert particles.optimisation_set == path
        assert particles.tomograms_file == tmp_path / "Tomograms/job1/tomograms.star"
        assert particles.text == listed.read_text()

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "set.star"
        path.write_text("data_\n_rlnTomoParticlesFile no/picks.star\n_rlnTomoTomogramsFile no/tomograms.star\n")
        with pytest.raises(InputError, match=r"names the particle list no/picks.star, which is not in its folder"):
            read_particles(path)
        picks(tmp_path, CORNERS)
        path.write_text("data_\n_rlnTomoParticlesFile Picks/job2/picks.star\n_rlnTomoTomogramsFile no/tomograms.star\n")
        assert "names the tomograms no/tomograms.star, which are not there" in " ".join(read_particles(path).notes)
        path.write_text("data_\n_rlnTomoTomogramsFile no/tomograms.star\n")
        with pytest.raises(InputError, match="must name one rlnTomoParticlesFile"):
            read_particles(path)


class TestBoxes:
    def test_paths_are_relative_to_the_project(self, tmp_path: Path) -> None:
        data = boxes(3)
        write_map(tmp_path / "Extract/job3/s.mrcs", data, 8.0)
        names = [f"{k:06d}@Extract/job3/s.mrcs" for k in (3, 1, 2)]
        path = write_star(tmp_path / "Refine3D/job4/run_data.star", particles={"rlnImageName": names})
        particles = read_particles(path)
        assert particles.project == tmp_path
        assert particles.voxel_size == 8.0
        assert np.array_equal(particles.volumes.read(np.arange(3)), data[[2, 0, 1]])
        assert require_boxes(particles) is particles.volumes

    def test_one_file_per_particle(self, tmp_path: Path) -> None:
        data = boxes(2)
        names = [str(write_map(tmp_path / f"sub/{k}_data.mrc", data[k]).relative_to(tmp_path)) for k in range(2)]
        optics = {
            "rlnOpticsGroup": [1],
            "rlnImagePixelSize": [10.0],
            "rlnImageDimensionality": [3],
            "rlnImageSize": [6],
        }
        rows = {"rlnImageName": names, "rlnOpticsGroup": [1, 1]}
        particles = read_particles(write_star(tmp_path / "p.star", optics=optics, particles=rows))
        assert np.array_equal(particles.volumes.read(np.array([1, 0])), data[::-1])

    def test_images_are_two_dimensional(self, tmp_path: Path) -> None:
        write_map(tmp_path / "i.mrcs", boxes(1)[0][:4])
        particles = read_particles(write_star(tmp_path / "p.star", images={"rlnImageName": ["2@i.mrcs", "4@i.mrcs"]}))
        assert particles.volumes.shape == (2, 6, 6)

    def test_a_column_of_cubes_that_calls_itself_a_volume(self, tmp_path: Path) -> None:
        data = boxes(3)
        write_map(tmp_path / "v.mrc", data.reshape(18, 6, 6))
        particles = read_particles(write_star(tmp_path / "p.star", images={"rlnImageName": ["3@v.mrc", "1@v.mrc"]}))
        assert np.array_equal(particles.volumes.read(np.arange(2)), data[[2, 0]])

    def test_listed_pixel_size_comes_before_the_header(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(1), 1.0)
        optics = {"rlnOpticsGroup": [7], "rlnImagePixelSize": [12.4]}
        path = write_star(
            tmp_path / "p.star", optics=optics, particles={"rlnImageName": ["1@s.mrcs"], "rlnOpticsGroup": [7]}
        )
        particles = read_particles(path)
        assert particles.voxel_size == 12.4
        assert "has 1 A per voxel in its header" in " ".join(particles.notes)
        given = read_particles(path, voxel_size=5.0)
        assert given.voxel_size == 5.0
        assert "instead of 12.4 A" in " ".join(given.notes)

    def test_no_voxel_size_anywhere(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(1), 0)
        particles = read_particles(write_star(tmp_path / "p.star", particles={"rlnImageName": ["1@s.mrcs"]}))
        assert particles.voxel_size is None
        with pytest.raises(InputError, match="give --voxel-size"):
            require_boxes(particles)

    def test_2d_stacks_of_relion_5_are_never_particles(self, tmp_path: Path) -> None:
        write_map(tmp_path / "Extract/1_stack2d.mrcs", boxes(1)[0][:4])
        path = write_star(
            tmp_path / "p.star",
            general={"rlnTomoSubTomosAre2DStacks": 1},
            particles={
                "rlnTomoName": ["TS_1"],
                "rlnImageName": ["Extract/1_stack2d.mrcs"],
                **coordinates([[4.0, 4.0, 4.0]]),
            },
        )
        particles = read_particles(path, tomograms=project(tmp_path))
        assert particles.volumes is None
        assert np.allclose(particles.positions, [[10, 10, 10]])
        with pytest.raises(
            InputError, match=r"2D-stack .* extract from the tomograms instead, with napari-disentangle extract"
        ):
            require_boxes(particles)
        optics = {"rlnOpticsGroup": [1], "rlnImageDimensionality": [2]}
        rows = {"rlnImageName": ["Extract/1_stack2d.mrcs"], "rlnTomoVisibleFrames": ["[1,1]"], "rlnOpticsGroup": [1]}
        assert "2D-stack" in read_particles(write_star(tmp_path / "q.star", optics=optics, particles=rows)).no_boxes

    def test_boxes_that_are_not_there(self, tmp_path: Path) -> None:
        particles = read_particles(write_star(tmp_path / "p.star", particles={"rlnImageName": ["1@gone.mrcs"]}))
        assert particles.volumes is None
        with pytest.raises(InputError, match=r"names gone\.mrcs in row 1, which is not in its folder"):
            require_boxes(particles)

    def test_a_fault_of_the_tomograms_does_not_keep_boxes_from_use(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(1))
        project(tmp_path, size=(160, 80, 80))
        picks(tmp_path, [[0, 0, 0]], centred=True, rlnImageName=["1@s.mrcs"])
        path = tmp_path / "set.star"
        path.write_text(
            "data_\n_rlnTomoParticlesFile Picks/job2/picks.star\n_rlnTomoTomogramsFile Tomograms/job1/tomograms.star\n"
        )
        particles = read_particles(path)
        assert particles.volumes is not None
        assert particles.positions is None
        assert "40 x 20 x 20" in " ".join(particles.notes)


class TestNames:
    def test_a_folder_may_have_an_at_in_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "me@lab").mkdir()
        write_map(tmp_path / "me@lab/a.mrc", boxes(1)[0])
        write_map(tmp_path / "me@lab/s.mrcs", boxes(2))
        for names in (["me@lab/a.mrc"], ["2@me@lab/s.mrcs", "1@me@lab/s.mrcs"]):
            found = read_particles(write_star(tmp_path / "p.star", particles={"rlnImageName": names}))
            assert found.volumes is not None
            assert found.volumes.shape[0] == len(names)


class TestBadInput:
    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({"rlnClassNumber": [1]}, "no _rlnImageName, and its coordinates lack _rlnCoordinateX"),
            ({"rlnCoordinateX": [1], "rlnCoordinateY": [1]}, "lack _rlnCoordinateZ"),
            ({"rlnCenteredCoordinateXAngst": [1]}, "lack _rlnCenteredCoordinateYAngst, _rlnCenteredCoordinateZAngst"),
            ({"rlnCoordinateX": [], "rlnCoordinateY": [], "rlnCoordinateZ": []}, "has no particles"),
            (
                {"rlnCoordinateX": [1], "rlnCoordinateY": ["nan"], "rlnCoordinateZ": [1]},
                r"no number in _rlnCoordinateY at row 1",
            ),
        ],
    )
    def test_lists(self, tmp_path: Path, columns: dict[str, list[object]], words: str) -> None:
        with pytest.raises(InputError, match=words):
            read_particles(write_star(tmp_path / "p.star", particles=columns))

    def test_files(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"p\.star does not exist"):
            read_particles(tmp_path / "p.star")
        (tmp_path / "p.star").write_text("")
        with pytest.raises(InputError, match="no data_ block"):
            read_particles(tmp_path / "p.star")
        write_star(tmp_path / "p.star", general={"rlnA": 1})
        with pytest.raises(InputError, match="no block of particles"):
            read_particles(tmp_path / "p.star")
        with pytest.raises(InputError, match=r"folder without extraction\.json"):
            read_particles(tmp_path)
        (tmp_path / "p.tbl").write_text("1 2 3")
        with pytest.raises(InputError, match=r'ends in "\.tbl"'):
            read_particles(tmp_path / "p.tbl")

    def test_a_stack_shorter_than_its_list(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(2))
        names = {"rlnImageName": ["1@s.mrcs", "3@s.mrcs", "9@s.mrcs"]}
        with pytest.raises(InputError, match=r"has 2 boxes and is shorter .* 3@s\.mrcs in row 2 \(2 of 3 rows"):
            read_particles(write_star(tmp_path / "p.star", particles=names))

    def test_sections_that_are_no_numbers(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(2))
        for name in ("0@s.mrcs", "x@s.mrcs"):
            with pytest.raises(InputError, match="counted from 1"):
                read_particles(write_star(tmp_path / "p.star", particles={"rlnImageName": [name]}))

    def test_mixed_and_odd_boxes(self, tmp_path: Path) -> None:
        write_map(tmp_path / "a.mrc", boxes(1)[0])
        write_map(tmp_path / "b.mrc", boxes(1, 8)[0])
        write_map(tmp_path / "tilts.mrc", boxes(1)[0][:5])
        with pytest.raises(
            InputError, match=r"different sizes: 6 x 6 x 6 voxels in .*a\.mrc and 8 x 8 x 8 in .*b\.mrc"
        ):
            read_particles(write_star(tmp_path / "p.star", particles={"rlnImageName": ["a.mrc", "b.mrc"]}))
        with pytest.raises(InputError, match=r"5 x 6 x 6 voxels, not one cubic box; .*extract from the tomograms"):
            read_particles(write_star(tmp_path / "p.star", particles={"rlnImageName": ["tilts.mrc"]}))
        write_map(tmp_path / "flat.mrcs", np.zeros((2, 6, 6, 8)))
        with pytest.raises(InputError, match="6 x 6 x 8 voxels, which are not cubic"):
            read_particles(write_star(tmp_path / "p.star", particles={"rlnImageName": ["1@flat.mrcs"]}))

    def test_sizes_that_disagree_between_files(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(1))
        optics = {"rlnOpticsGroup": [1], "rlnImageSize": [64]}
        path = write_star(tmp_path / "p.star", optics=optics, particles={"rlnImageName": ["1@s.mrcs"]})
        with pytest.raises(InputError, match=r"64 voxels \(_rlnImageSize\) and those of .* have 6"):
            read_particles(path)

    def test_optics_groups_that_do_not_fit(self, tmp_path: Path) -> None:
        write_map(tmp_path / "s.mrcs", boxes(2))
        rows = {"rlnImageName": ["1@s.mrcs", "2@s.mrcs"], "rlnOpticsGroup": [1, 3]}
        optics = {"rlnOpticsGroup": [1, 2], "rlnImagePixelSize": [10.0, 12.0]}
        with pytest.raises(InputError, match="optics group 3 in row 2"):
            read_particles(write_star(tmp_path / "p.star", optics=optics, particles=rows))
        rows["rlnOpticsGroup"] = [1, 2]
        with pytest.raises(InputError, match="of 10 and of 12 A per pixel"):
            read_particles(write_star(tmp_path / "p.star", optics=optics, particles=rows))
        del rows["rlnOpticsGroup"]
        with pytest.raises(InputError, match="2 optics groups, and no _rlnOpticsGroup"):
            read_particles(write_star(tmp_path / "p.star", optics=optics, particles=rows))

    def test_positions_are_not_boxes(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"positions in tomograms, not boxes; .* extract .*picks\.star OUT --box N"
        ):
            require_boxes(read_particles(picks(tmp_path, CORNERS)))

    @pytest.mark.parametrize("option", ["voxel_size", "coordinate_pixel"])
    def test_sizes_that_are_none(self, tmp_path: Path, option: str) -> None:
        with pytest.raises(InputError, match="greater than 0"):
            read_particles(picks(tmp_path, CORNERS), **{option: 0.0})
