"""Places of particles in their tomograms: signs, sizes, tilts; files that contradict one another are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from lists import CORNERS, FRAMES, ORIGINS, coordinates, matrices, picks, project, write_map, write_star
from scipy.spatial.transform import Rotation

from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles

if TYPE_CHECKING:
    from pathlib import Path


class TestPositions:
    def test_corner_pixels(self, tmp_path: Path) -> None:
        particles = read_particles(picks(tmp_path, CORNERS), tomograms=project(tmp_path))
        assert particles.positions is not None
        assert np.allclose(particles.positions, np.array(CORNERS) * 2.5)
        tomogram = particles.tomograms[0]
        assert (tomogram.name, tomogram.pixel_size, tomogram.voxel_size) == ("TS_1", 2.5, 10.0)
        assert (tomogram.shape, tomogram.size) == ((20, 30, 40), (160.0, 120.0, 80.0))
        assert particles.tomogram is not None
        assert particles.tomogram.tolist() == [0, 0]
        assert particles.volumes is None
        assert particles.ids.tolist() == [0, 1]

    def test_centred_and_corner_coordinates_give_identical_positions(self, tmp_path: Path) -> None:
        table = project(tmp_path)
        centred = (np.array(CORNERS) - np.array([160, 120, 80]) / 2) * 2.5
        a = read_particles(picks(tmp_path, CORNERS, **ORIGINS, **FRAMES), tomograms=table)
        b = read_particles(picks(tmp_path, centred, centred=True, name="b", **ORIGINS, **FRAMES), tomograms=table)
        assert np.array_equal(a.positions, b.positions)

    def test_origins_are_subtracted(self, tmp_path: Path) -> None:
        particles = read_particles(picks(tmp_path, CORNERS, **ORIGINS), tomograms=project(tmp_path))
        assert np.allclose(particles.positions, np.array(CORNERS) * 2.5 - np.array([[1, 2, -3], [0, -4, 0.5]]))

    def test_origins_are_turned_into_the_tomogram(self, tmp_path: Path) -> None:
        path = picks(tmp_path, CORNERS, **ORIGINS, **FRAMES)
        particles = read_particles(path, tomograms=project(tmp_path))
        shift = np.einsum("nij,nj->ni", matrices(FRAMES), np.array([[1, 2, -3], [0, -4, 0.5]]))
        assert np.allclose(particles.positions, np.array(CORNERS) * 2.5 - shift)

    def test_a_known_turn(self, tmp_path: Path) -> None:
        """A_sub of rot 90 takes x to -y (RELION's passive convention), so an origin of 5 A in x moves p 5 A in y."""
        path = picks(
            tmp_path, [[16.0, 40.0, 24.0]], rlnOriginXAngst=[5.0], rlnOriginYAngst=[0.0], rlnOriginZAngst=[0.0],
            rlnTomoSubtomogramRot=[90.0], rlnTomoSubtomogramTilt=[0.0], rlnTomoSubtomogramPsi=[0.0],
        )  # fmt: skip
        particles = read_particles(path, tomograms=project(tmp_path))
        assert np.allclose(particles.positions, [[40.0, 105.0, 60.0]])

    def test_half_of_an_odd_size_is_not_rounded(self, tmp_path: Path) -> None:
        table = project(tmp_path, size=(161, 119, 81))
        particles = read_particles(picks(tmp_path, [[0.0, 0.0, 0.0]], centred=True), tomograms=table)
        assert np.allclose(particles.positions, np.array([[161, 119, 81]]) / 2 * 2.5)

    def test_fractional_binning(self, tmp_path: Path) -> None:
        """Binned voxel = C_px / bin from the corner: 1.35 x 7.407407 = 10 A."""
        table = project(tmp_path, pixel=1.35, rlnTomoTomogramBinning=[7.407407], size=(296, 222, 148))
        particles = read_particles(picks(tmp_path, CORNERS), tomograms=table)
        assert np.allclose(particles.positions, np.array(CORNERS) * 1.35)
        assert particles.tomograms[0].voxel_size == pytest.approx(10.0, rel=1e-6)

    def test_one_volume_for_all(self, tmp_path: Path) -> None:
        project(tmp_path)
        volume = tmp_path / "Tomograms/job1/rec_TS_1.mrc"
        centred = picks(tmp_path, [[0.0, 10.0, -5.0]], centred=True)
        particles = read_particles(centred, tomogram=volume)
        assert np.allclose(particles.positions, [[200, 160, 95]])
        assert "centred on the size of the volume" in " ".join(particles.notes)
        optics = {"rlnOpticsGroup": [1], "rlnTomoTiltSeriesPixelSize": [2.5]}
        table = {"rlnTomoName": ["a", "a"], "rlnOpticsGroup": [1, 1], **coordinates(np.array(CORNERS))}
        listed = write_star(tmp_path / "listed.star", optics=optics, particles=table)
        assert np.allclose(read_particles(listed, tomogram=volume).positions, np.array(CORNERS) * 2.5)

    def test_no_pixel_size(self, tmp_path: Path) -> None:
        project(tmp_path)
        volume = tmp_path / "Tomograms/job1/rec_TS_1.mrc"
        path = picks(tmp_path, [[1.0, 2.0, 3.0]])
        with pytest.raises(InputError, match=r"how large a pixel is; .* give --voxel-size 10\."):
            read_particles(path, tomogram=volume)
        particles = read_particles(path, tomogram=volume, voxel_size=10.0)
        assert np.allclose(particles.positions, [[10, 20, 30]])
        assert "no pixel size" in " ".join(particles.notes)
        assert read_particles(path).positions is None
        assert np.allclose(read_particles(path, coordinate_pixel=3.0).positions, [[3, 6, 9]])

    def test_several_tomograms_and_their_order(self, tmp_path: Path) -> None:
        for name in ("b", "a", "c"):
            write_map(tmp_path / f"{name}.mrc", np.zeros((20, 20, 20)), 10.0)
        table = {
            "rlnTomoName": ["a", "b", "c"],
            "rlnTomoTiltSeriesPixelSize": [10.0, 5.0, 10.0],
            "rlnTomoReconstructedTomogram": ["a.mrc", "b.mrc", "c.mrc"],
        }
        tomograms = write_star(tmp_path / "tomograms.star", **{"global": table})
        path = write_star(
            tmp_path / "p.star", particles={"rlnTomoName": ["b", "a", "b"], **coordinates(np.full((3, 3), 8.0))}
        )
        particles = read_particles(path, tomograms=tomograms)
        names = [particles.tomograms[k].name for k in particles.tomogram]
        assert names == ["b", "a", "b"]
        assert particles.positions[:, 0].tolist() == [40, 80, 40]
        with pytest.raises(InputError, match=r"particles of 2 tomograms \(b, a, \.\.\.\)"):
            read_particles(path, tomogram=tmp_path / "a.mrc")

    def test_warp_coordinates_in_binned_voxels_are_asked_about(self, tmp_path: Path) -> None:
        corner = np.random.default_rng(0).uniform(0, 20, (12, 3))
        path, table = picks(tmp_path, corner), project(tmp_path)
        with pytest.raises(InputError, match=r"one corner .* --coordinate-pixel 10 if they are"):
            read_particles(path, tomograms=table)
        assert np.allclose(read_particles(path, tomograms=table, coordinate_pixel=10).positions, corner * 10)
        assert np.allclose(read_particles(path, tomograms=table, coordinate_pixel=2.5).positions, corner * 2.5)

    def test_particles_outside_are_counted(self, tmp_path: Path) -> None:
        particles = read_particles(picks(tmp_path, [*CORNERS, [170.0, 1.0, 1.0]]), tomograms=project(tmp_path))
        assert "1 of 3 particles lie outside their tomogram." in particles.notes


class TestSizes:
    def test_disagreement_is_refused_for_centred_coordinates_only(self, tmp_path: Path) -> None:
        table = project(tmp_path, size=(160, 80, 80))
        centred = picks(tmp_path, [[0, 0, 0], [0, 130, 0]], centred=True)
        words = (
            r"TS_1 is 40 x 20 x 20 voxels \(x, y, z\) by .*tomograms\.star and 40 x 30 x 20 by the header .*"
            r"--size-from volume \(then 2 of its 2 .* --size-from star \(2 lie inside\)"
        )
        with pytest.raises(InputError, match=words):
            read_particles(centred, tomograms=table)
        by_star = read_particles(centred, tomograms=table, size_from="star")
        by_volume = read_particles(centred, tomograms=table, size_from="volume")
        assert by_star.positions[0].tolist() == [200, 100, 100]
        assert by_volume.positions[0].tolist() == [200, 150, 100]
        assert "that of the volume" in " ".join(by_volume.notes)
        corner = read_particles(picks(tmp_path, CORNERS, name="c"), tomograms=table)
        assert np.allclose(corner.positions, np.array(CORNERS) * 2.5)
        assert "do not depend on it" in " ".join(corner.notes)

    @pytest.mark.parametrize("size", [(160, 120, 80), (156, 124, 77), (162, 118, 84)])
    def test_rounding_is_no_disagreement(self, tmp_path: Path, size: tuple[float, float, float]) -> None:
        table = project(tmp_path, size=size)
        assert read_particles(picks(tmp_path, [[0, 0, 0]], centred=True), tomograms=table).positions is not None

    def test_voxel_sizes_that_disagree(self, tmp_path: Path) -> None:
        table, path = project(tmp_path, voxel=12.0), picks(tmp_path, CORNERS)
        with pytest.raises(InputError, match=r"TS_1 is 10 A by .*binning\) and 12 A by the header .*--voxel-size"):
            read_particles(path, tomograms=table)
        particles = read_particles(path, tomograms=table, voxel_size=12.0)
        assert particles.tomograms[0].voxel_size == 12.0
        assert "instead of 10 A" in " ".join(particles.notes)

    def test_a_voxel_size_of_0(self, tmp_path: Path) -> None:
        particles = read_particles(picks(tmp_path, CORNERS), tomograms=project(tmp_path, voxel=0))
        assert particles.tomograms[0].voxel_size == 10.0
        assert "no voxel size in its header" in " ".join(particles.notes)
        volume = tmp_path / "Tomograms/job1/rec_TS_1.mrc"
        with pytest.raises(InputError, match=r"voxel size of 0 .* give --voxel-size"):
            read_particles(picks(tmp_path, CORNERS), tomogram=volume)

    def test_pixel_sizes_that_disagree(self, tmp_path: Path) -> None:
        table = project(tmp_path)
        with pytest.raises(InputError, match=r"pixel size of 3 A by .* and 2\.5 A by .*--coordinate-pixel"):
            read_particles(picks(tmp_path, CORNERS, rlnTomoTiltSeriesPixelSize=[3.0, 3.0]), tomograms=table)
        centred = picks(tmp_path, CORNERS, centred=True, rlnTomoTiltSeriesPixelSize=[3.0, 3.0])
        assert "the latter is used" in " ".join(read_particles(centred, tomograms=table).notes)


class TestTomograms:
    def tilted(self, folder: Path, **columns: list[object]) -> Path:
        write_star(folder / "Tomograms/job1/TS_1.star", TS_1=columns)
        return project(folder, rlnTomoTiltSeriesStarFile=["Tomograms/job1/TS_1.star"])

    def test_tilts_and_defocus_of_the_tilt_series(self, tmp_path: Path) -> None:
        table = self.tilted(
            tmp_path,
            rlnTomoNominalStageTiltAngle=[-50, 0, 66],
            rlnTomoYTilt=[-51.5, 0.5, 64],
            rlnDefocusU=[30000, 32000, 34000],
            rlnDefocusV=[31000, 33000, 35000],
        )
        tomogram = read_particles(picks(tmp_path, CORNERS), tomograms=table).tomograms[0]
        assert (tomogram.tilt_range, tomogram.defocus) == ((-51.5, 64.0), 32500.0)
        nominal = self.tilted(tmp_path, rlnTomoNominalStageTiltAngle=[-50, 0, 66])
        assert read_particles(picks(tmp_path, CORNERS), tomograms=nominal).tomograms[0].tilt_range == (-50.0, 66.0)

    def test_tilts_of_projection_matrices(self, tmp_path: Path) -> None:
        """RELION 4 and Warp: P = Rz(axis) Ry(tilt), in a block named after the tomogram."""
        axis = Rotation.from_euler("z", 85, degrees=True)
        turns = [axis * Rotation.from_euler("y", tilt, degrees=True) for tilt in (-40.0, 10.0, 62.0)]
        rows = [turn.as_matrix()[2] for turn in turns]
        text = ["[" + ",".join(f"{v:.7g}" for v in (*row, 0)) + "]" for row in rows]
        table = project(tmp_path)
        table.write_text(table.read_text() + "\ndata_TS_1\nloop_\n_rlnTomoProjZ\n" + "\n".join(text) + "\n")
        found = read_particles(picks(tmp_path, CORNERS), tomograms=table).tomograms[0].tilt_range
        assert found == pytest.approx((-40.0, 62.0), abs=1e-3)

    def test_a_given_tilt_range_wins(self, tmp_path: Path) -> None:
        table = self.tilted(tmp_path, rlnTomoYTilt=[-50, 60])
        particles = read_particles(picks(tmp_path, CORNERS), tomograms=table, tilt_range=(-45, 45))
        assert particles.tilt_ranges().tolist() == [[-45, 45], [-45, 45]]
        assert "by its files TS_1 has -50 to 60" in " ".join(particles.notes)
        same = read_particles(picks(tmp_path, CORNERS), tomograms=table, tilt_range=(-50, 60))
        assert not any("tilt range" in note for note in same.notes)
        unknown = read_particles(picks(tmp_path, CORNERS), tomograms=project(tmp_path))
        assert "The tilt range is not known" in " ".join(unknown.notes)
        with pytest.raises(InputError, match=r"--tilt-range 60,-60 is no range"):
            read_particles(picks(tmp_path, CORNERS), tilt_range=(60, -60))

    def test_which_volume(self, tmp_path: Path) -> None:
        for name in ("denoised", "half1"):
            write_map(tmp_path / f"{name}.mrc", np.zeros((20, 30, 40)), 10.0)
        columns = {
            "rlnTomoReconstructedTomogram": ["gone.mrc"],
            "rlnTomoReconstructedTomogramHalf1": ["half1.mrc"],
            "rlnTomoReconstructedTomogramDenoised": ["denoised.mrc"],
        }
        particles = read_particles(picks(tmp_path, CORNERS), tomograms=project(tmp_path, **columns))
        assert particles.tomograms[0].path == tmp_path / "denoised.mrc"
        assert "denoised volume is used" in " ".join(particles.notes)
        (tmp_path / "denoised.mrc").unlink()
        particles = read_particles(picks(tmp_path, CORNERS), tomograms=project(tmp_path, **columns))
        assert particles.tomograms[0].path == tmp_path / "half1.mrc"
        assert "first half's volume" in " ".join(particles.notes)
        (tmp_path / "half1.mrc").unlink()
        particles = read_particles(picks(tmp_path, CORNERS), tomograms=project(tmp_path, **columns))
        assert particles.tomograms[0].path is None
        assert "are not there: gone.mrc" in " ".join(particles.notes)

    def test_a_table_that_does_not_belong(self, tmp_path: Path) -> None:
        path = picks(tmp_path, CORNERS)
        with pytest.raises(InputError, match=r"does not list the tomogram TS_1 .* it has TS_9"):
            read_particles(path, tomograms=project(tmp_path, rlnTomoName=["TS_9"]))
        with pytest.raises(InputError, match="lists no tomograms"):
            read_particles(path, tomograms=path)
        with pytest.raises(InputError, match="is a list of tomograms, not of particles"):
            read_particles(project(tmp_path))
        with pytest.raises(InputError, match="not both"):
            read_particles(path, tomograms=project(tmp_path), tomogram=tmp_path / "a.mrc")
