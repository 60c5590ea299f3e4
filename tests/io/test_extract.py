"""Extraction: where boxes lie, what becomes of edges, and what is written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle import io
from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix
from napari_disentangle.io.background import measure_background
from napari_disentangle.io.boxes import BoxShape
from napari_disentangle.io.extract import extract
from napari_disentangle.io.record import ExtractionRecord
from napari_disentangle.io.star import StarFile
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose, Tomogram

VOXEL = 8.0


def write_tomogram(path: Path, data: np.ndarray, voxel: float = VOXEL) -> Path:
    with warnings.catch_warnings(), mrcfile.new(path, overwrite=True) as file:
        warnings.simplefilter("ignore", RuntimeWarning)  # of voxels that are not numbers, on purpose
        file.set_data(data)
        file.voxel_size = voxel
    return path


def picks(path: Path, voxels, *, voxel: float = VOXEL, **more) -> ParticleSet:
    """Particles at positions (n, 3) in voxels, xyz, of one tomogram."""
    positions = np.asarray(voxels, dtype=np.float64) * voxel
    fields = {
        "path": path.with_name("picks.star"),
        "ids": np.arange(len(positions)),
        "positions": positions,
        "tomograms": (Tomogram("t1", path, pixel_size=voxel / 4, voxel_size=voxel),),
        "tomogram": np.zeros(len(positions), np.int64),
    }
    return ParticleSet(**(fields | more))


def boxes_of(out: Path) -> np.ndarray:
    with mrcfile.open(out / "particles.mrcs") as file:
        return file.data.copy()


@pytest.fixture
def noise(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A tomogram of noise, and its voxels."""
    data = np.random.default_rng(0).normal(5, 2, (40, 48, 56)).astype(np.float32)
    return write_tomogram(tmp_path / "noise.mrc", data), data


def blob(shape: tuple[int, int, int], centre_xyz, width: float = 3.0) -> np.ndarray:
    """A Gaussian at a place given in voxels, xyz."""
    z, y, x = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    cx, cy, cz = centre_xyz
    return np.exp(-((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * width**2)).astype(np.float32)


def centre_of_mass(box: np.ndarray) -> np.ndarray:
    """In voxels from voxel n // 2, xyz."""
    weight = np.clip(box - 0.05 * box.max(), 0, None)
    grids = np.meshgrid(*[np.arange(n) - n // 2 for n in box.shape], indexing="ij")
    return np.array([(g * weight).sum() / weight.sum() for g in grids])[::-1]


class TestGeometry:
    def test_an_unbinned_box_is_a_copy_around_voxel_n_half(self, noise, tmp_path):
        path, data = noise
        record = extract(picks(path, [[20, 21, 22], [30.4, 20.6, 18.5]]), tmp_path / "out", box=16, normalise=False)
        boxes = boxes_of(tmp_path / "out")
        assert boxes.shape == (2, 16, 16, 16)
        np.testing.assert_array_equal(boxes[0], data[14:30, 13:29, 12:28])
        np.testing.assert_array_equal(boxes[1], data[11:27, 13:29, 22:38])  # 30.4, 20.6, 18.5 -> 30, 21, 19
        assert boxes[1][8, 8, 8] == data[19, 21, 30]
        assert record.voxel_size == VOXEL

    @pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16])
    def test_every_grey_value_type_becomes_float32(self, tmp_path, dtype):
        data = np.random.default_rng(1).integers(0, 100, (24, 24, 24)).astype(dtype)
        path = write_tomogram(tmp_path / "t.mrc", data)
        extract(picks(path, [[12, 12, 12]]), tmp_path / "out", box=8, normalise=False)
        boxes = boxes_of(tmp_path / "out")
        assert boxes.dtype == np.float32
        np.testing.assert_array_equal(boxes[0], data[8:16, 8:16, 8:16].astype(np.float32))

    def test_the_rest_is_kept_as_the_negative_origin(self, noise, tmp_path):
        path, _ = noise
        extract(picks(path, [[20.3, 21.0, 21.6]]), tmp_path / "out", box=16)
        table = StarFile.read(tmp_path / "out/particles.star").block("particles")
        coordinates = [table.numbers(f"rlnCoordinate{k}")[0] for k in "XYZ"]
        origins = [table.numbers(f"rlnOrigin{k}Angst")[0] for k in "XYZ"]
        np.testing.assert_allclose(coordinates, [20 * 4, 21 * 4, 22 * 4])  # bin-1 pixels
        np.testing.assert_allclose(origins, [-0.3 * VOXEL, 0, 0.4 * VOXEL], atol=1e-6)
        # origins are subtracted
        np.testing.assert_allclose(
            np.array(coordinates) * VOXEL / 4 - origins, np.array([20.3, 21.0, 21.6]) * VOXEL, atol=1e-5
        )

    @settings(deadline=None, max_examples=15)
    @given(
        binning=st.sampled_from([1.0, 1.37, 2.0, 2.5]),
        rest=st.tuples(*[st.floats(-0.49, 0.49)] * 3),
        box=st.sampled_from([15, 16]),
    )
    def test_a_blob_is_found_at_the_rest_in_binned_boxes(self, binning, rest, box):
        where = np.array([31.0, 28.0, 30.0]) + rest
        volume = blob((60, 64, 68), where)
        shape = BoxShape(box, binning)
        centres, rests = shape.centres(where[None] * VOXEL, VOXEL)
        np.testing.assert_array_equal(centres[0], [31, 28, 30])
        found = centre_of_mass(shape.read(volume, centres[0]))
        np.testing.assert_allclose(found, rests[0] / VOXEL / binning, atol=0.05)

    def test_fractional_binning_keeps_the_voxel_size_exact(self, tmp_path):
        # two blobs 13.7 voxels apart are 10 voxels apart at bin 1.37
        volume = blob((60, 64, 68), (30, 32, 30), 1.5) + blob((60, 64, 68), (43.7, 32, 30), 1.5)
        path = write_tomogram(tmp_path / "t.mrc", volume)
        record = extract(picks(path, [[30, 32, 30]]), tmp_path / "out", box=32, bin=1.37, normalise=False)
        assert record.voxel_size == pytest.approx(1.37 * VOXEL, abs=1e-9)
        box = boxes_of(tmp_path / "out")[0]
        left, right = box[..., :21], box[..., 21:]
        distance = (
            centre_of_mass(right)[0] + 21 + right.shape[-1] // 2 - (centre_of_mass(left)[0] + left.shape[-1] // 2)
        )
        assert distance == pytest.approx(10, abs=0.05)
        with mrcfile.open(tmp_path / "out/particles.mrcs", header_only=True) as file:
            assert file.header.ispg == 401
            assert float(file.voxel_size.x) == pytest.approx(1.37 * VOXEL, abs=1e-4)

    def test_binning_a_box_is_near_binning_the_whole_tomogram(self):
        from napari_disentangle.fourier import fourier_crop

        volume = np.random.default_rng(3).standard_normal((96, 96, 96)).astype(np.float32)
        whole = fourier_crop(volume, 48)
        box = BoxShape(16, 2.0).read(volume, np.array([48, 48, 48]))
        inside = whole[16:32, 16:32, 16:32]
        assert np.sqrt(((box - inside) ** 2).mean() / inside.var()) < 0.2

    def test_half_voxel_picks_do_not_depend_on_the_last_digit(self):
        shape = BoxShape(16)
        nudged = np.array([[20.5 - 1e-6, 20.5, 20.5 + 1e-6]]) * VOXEL
        np.testing.assert_array_equal(shape.centres(nudged, VOXEL)[0], [[21, 21, 21]])


class TestEdges:
    @pytest.fixture
    def over(self, noise):
        """Two boxes inside, one over the edge, one far outside; rows 10 to 13 of their list."""
        path, _ = noise
        return picks(path, [[20, 20, 20], [5, 20, 20], [30, 20, 20], [500, 20, 20]], ids=np.arange(10, 14))

    def test_refuse_counts_and_names_them(self, over, tmp_path):
        with pytest.raises(InputError, match=r"2 of 4 boxes .*particles 11, 13.*--edge skip.*--edge pad"):
            extract(over, tmp_path / "out", box=16)
        assert not (tmp_path / "out").exists()

    def test_skip_drops_and_lists_them(self, over, tmp_path):
        record = extract(over, tmp_path / "out", box=16, edge="skip")
        assert record.ids == (10, 12)
        assert [(d.id, d.why) for d in record.dropped] == [
            (11, "the box reaches over the tomogram's edge"),
            (13, "the box lies outside the tomogram"),
        ]
        assert any("2 of 4" in note for note in record.notes)
        assert len(boxes_of(tmp_path / "out")) == 2

    def test_pad_fills_with_the_background(self, noise, tmp_path):
        path, data = noise
        record = extract(
            picks(path, [[5, 20, 20], [20, 20, 20]]), tmp_path / "out", box=16, edge="pad", normalise=False
        )
        box = boxes_of(tmp_path / "out")[0]
        np.testing.assert_array_equal(box[..., 3:], data[12:28, 12:28, :13])
        np.testing.assert_allclose(box[..., :3], record.tomograms[0].background_mean, rtol=1e-6)
        assert record.ids == (0, 1)

    def test_padded_boxes_are_near_zero_there_when_normalised(self, noise, tmp_path):
        path, _ = noise
        extract(picks(path, [[5, 20, 20]]), tmp_path / "out", box=16, edge="pad")
        assert np.abs(boxes_of(tmp_path / "out")[0][..., :3]).max() < 1e-5

    def test_pad_refuses_boxes_that_do_not_touch_the_tomogram(self, over, tmp_path):
        with pytest.raises(InputError, match=r"1 of 4 boxes .*lie outside .*particle 13"):
            extract(over, tmp_path / "out", box=16, edge="pad")

    @pytest.mark.parametrize("edge", ["refuse", "skip", "pad"])
    def test_every_box_outside_is_always_refused(self, noise, tmp_path, edge):
        path, _ = noise
        with pytest.raises(InputError, match="Every one of the 2 boxes"):
            extract(picks(path, [[500, 20, 20], [20, -90, 20]]), tmp_path / "out", box=16, edge=edge)

    def test_skip_that_leaves_nothing_is_refused(self, noise, tmp_path):
        path, _ = noise
        with pytest.raises(InputError, match="Every one of the 1 boxes"):
            extract(picks(path, [[5, 20, 20]]), tmp_path / "out", box=16, edge="skip")

    @given(c=st.integers(-4, 60), box=st.integers(2, 17), binning=st.sampled_from([1.0, 1.37, 2.0]))
    @settings(deadline=None, max_examples=60)
    def test_inside_means_that_no_voxel_of_the_box_is_beyond_the_edge(self, c, box, binning):
        whole, touching = BoxShape(box, binning).inside(np.array([[c, 25, 25]]), (60, 60, 50))
        places = c + (np.arange(box) - box // 2) * binning
        assert whole[0] == (places.min() >= -1e-6 and places.max() <= 49 + 1e-6)
        assert touching[0] or not ((places >= 0) & (places <= 49)).any()

    def test_a_tomogram_that_loses_all_its_particles_leaves_the_record(self, noise, tmp_path):
        tomograms = tuple(Tomogram(name, noise[0], voxel_size=VOXEL) for name in ("left", "stays"))
        particles = picks(noise[0], [[2, 2, 2], [20, 20, 20]], tomograms=tomograms, tomogram=np.array([0, 1]))
        record = extract(particles, tmp_path / "out", box=16, edge="skip")
        assert [t.name for t in record.tomograms] == ["stays"]
        assert record.tomogram == (0,)

    def test_without_a_fill_voxels_beyond_the_edge_are_mirrored(self):
        volume = np.random.default_rng(6).standard_normal((12, 14, 16)).astype(np.float32)
        box = BoxShape(16).read(volume, np.array([13, 2, 6]))
        mirrored = np.pad(volume, 8, mode="reflect")
        np.testing.assert_array_equal(box, mirrored[6:22, 2:18, 13:29])

    def test_a_box_at_the_very_edge_does_not_read_beyond_it(self):
        volume = np.random.default_rng(5).standard_normal((40, 40, 40)).astype(np.float32)
        box = BoxShape(16, 2.0).read(volume, np.array([16, 16, 16]))  # its margin is beyond the edge, itself it is not
        assert np.isfinite(box).all()
        assert 0.5 < box.std() / BoxShape(16, 2.0).read(volume, np.array([20, 20, 20])).std() < 2


class TestGreyValues:
    def test_normalised_by_the_background_of_each_tomogram(self, tmp_path):
        rng = np.random.default_rng(0)
        paths = []
        for k, (mean, std) in enumerate([(100, 20), (-3, 0.5)]):
            data = rng.normal(mean, std, (48, 64, 64)).astype(np.float32)
            paths.append(write_tomogram(tmp_path / f"t{k}.mrc", data))
        places = np.tile([[32.0, 32.0, 24.0]], (4, 1)) + np.arange(4)[:, None]
        particles = picks(
            paths[0], places, tomogram=np.array([1, 0, 1, 0]),
            tomograms=tuple(Tomogram(f"t{k}", p, voxel_size=VOXEL, tilt_range=(-60, 50)) for k, p in enumerate(paths)),
        )  # fmt: skip
        record = extract(particles, tmp_path / "out", box=16, bin=2)
        boxes = boxes_of(tmp_path / "out")
        np.testing.assert_allclose(boxes.mean((1, 2, 3)), 0, atol=0.1)
        np.testing.assert_allclose(boxes.std((1, 2, 3)), 1, atol=0.06)
        assert record.tomogram == (1, 0, 1, 0)
        assert [t.name for t in record.tomograms] == ["t0", "t1"]
        assert record.tomograms[0].background_mean == pytest.approx(100, abs=1)
        assert record.tomograms[1].background_mean == pytest.approx(-3, abs=0.05)
        assert record.tomograms[0].background_boxes == 64
        assert record.tomograms[0].tilt_range == (-60, 50)
        assert record.tomograms[0].shape == (48, 64, 64)

    def test_particles_keep_their_contrast_relative_to_one_another(self, tmp_path):
        data = np.random.default_rng(0).normal(0, 1, (48, 96, 96)).astype(np.float32)
        data += 10 * blob(data.shape, (24, 24, 24)) + 5 * blob(data.shape, (70, 70, 24))
        path = write_tomogram(tmp_path / "t.mrc", data)
        extract(picks(path, [[24, 24, 24], [70, 70, 24]]), tmp_path / "out", box=24)
        strong, weak = boxes_of(tmp_path / "out")[:, 10:15, 10:15, 10:15].mean((1, 2, 3))
        assert strong / weak == pytest.approx(2, rel=0.1)

    def test_invert_multiplies_by_minus_one(self, noise, tmp_path):
        path, _ = noise
        for invert in (False, True):
            extract(picks(path, [[20, 20, 20]]), tmp_path / str(invert), box=16, invert=invert)
        np.testing.assert_array_equal(boxes_of(tmp_path / "True"), -boxes_of(tmp_path / "False"))

    def test_background_keeps_away_from_particles(self):
        volume = np.zeros((32, 64, 64), np.float32) + np.random.default_rng(0).normal(0, 1, (32, 64, 64))
        volume[:, :, :32] += 100  # full of particles on one side
        centres = np.array([[x, y, z] for x in range(4, 28, 4) for y in range(0, 64, 4) for z in range(0, 32, 4)])
        background = measure_background(volume, BoxShape(8), centres, name="t")
        assert background is not None
        assert background.away
        assert abs(background.mean) < 1

    def test_a_crowded_tomogram_falls_back_with_a_note(self, noise, tmp_path):
        path, _ = noise
        grid = [[x, y, z] for x in range(8, 49, 6) for y in range(8, 41, 6) for z in range(8, 33, 6)]
        record = extract(picks(path, grid), tmp_path / "out", box=16)
        assert any("too full" in note for note in record.notes)
        assert any("closer than half a box" in note for note in record.notes)

    def test_the_same_seed_gives_the_same_boxes(self, noise, tmp_path):
        path, _ = noise
        for name, seed in (("a", 3), ("b", 3), ("c", 4)):
            extract(picks(path, [[20, 20, 20]]), tmp_path / name, box=16, bin=1.5, seed=seed)
        assert (tmp_path / "a/particles.mrcs").read_bytes()[1024:] == (tmp_path / "b/particles.mrcs").read_bytes()[
            1024:
        ]
        assert (boxes_of(tmp_path / "a") != boxes_of(tmp_path / "c")).any()

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("binning", [1, 1.5])
    def test_voxels_that_are_not_numbers_name_their_particles(self, tmp_path, value, binning):
        data = np.random.default_rng(0).standard_normal((48, 48, 96)).astype(np.float32)
        data[24, 24, 26] = value
        path = write_tomogram(tmp_path / "t.mrc", data)
        particles = picks(path, [[70, 24, 24], [24, 24, 24]], ids=np.array([5, 8]))
        with pytest.raises(InputError, match=r"1 of 2 boxes .*particle 8"):
            extract(particles, tmp_path / "out", box=12, bin=binning)
        assert [p.name for p in tmp_path.iterdir()] == ["t.mrc"]

    def test_empty_boxes_name_their_particles(self, tmp_path):
        data = np.random.default_rng(0).standard_normal((48, 48, 96)).astype(np.float32)
        data[..., :40] = 0
        path = write_tomogram(tmp_path / "t.mrc", data)
        with pytest.raises(InputError, match=r"1 of 2 boxes are constant.*particle 0"):
            extract(picks(path, [[20, 24, 24], [70, 24, 24]]), tmp_path / "out", box=16)

    def test_a_constant_tomogram_is_refused(self, tmp_path):
        path = write_tomogram(tmp_path / "t.mrc", np.ones((32, 32, 32), np.float32))
        with pytest.raises(InputError, match=r'tomogram "t1", is constant'):
            extract(picks(path, [[16, 16, 16]]), tmp_path / "out", box=16)


class TestFolder:
    def test_what_is_written(self, noise, tmp_path):
        path, _ = noise
        text = "data_\r\n\nloop_\n_rlnCoordinateX # odd\n 20\n"
        particles = picks(
            path, [[20.25, 20, 20], [30, 20, 20]], ids=np.array([3, 1]), text=text, original=tmp_path / "picks.star",
            project=tmp_path, halves=np.array([1, 2]), prior=np.array([[90.0, 10.0], [80.0, -20.0]]),
            pose=Pose(euler_to_matrix([[10, 20, 30], [-40, 150, 60]]), np.zeros((2, 3))), notes=("a guess",),
            defocus=np.array([3e4, 4e4]),
        )  # fmt: skip
        steps: list[tuple[int, int]] = []
        record = extract(particles, tmp_path / "out", box=16, bin=1.25, progress=lambda k, n: steps.append((k, n)))
        out = tmp_path / "out"
        assert sorted(p.name for p in out.iterdir()) == [
            "extraction.json", "original.star", "particles.mrcs", "particles.star",
        ]  # fmt: skip
        assert (out / "original.star").read_bytes() == text.encode()
        assert ExtractionRecord.read(out) == record
        assert json.loads((out / "extraction.json").read_text())["schema_version"] == 1
        assert record.source == tmp_path / "picks.star"
        assert record.notes[0] == "a guess"
        assert record.ids == (3, 1)
        assert steps == [(1, 2), (2, 2)]
        star = StarFile.read(out / "particles.star")
        assert star.block("general").column("rlnTomoSubTomosAre2DStacks") == ["0"]
        optics, table = star.block("optics"), star.block("particles")
        assert optics.numbers("rlnImagePixelSize") == [10]
        assert optics.numbers("rlnTomoTiltSeriesPixelSize") == [2]
        assert optics.numbers("rlnTomoSubtomogramBinning") == [5]
        assert optics.column("rlnImageSize") == ["16"]
        assert optics.column("rlnImageDimensionality") == ["3"]
        assert table.column("rlnImageName") == ["000001@particles.mrcs", "000002@particles.mrcs"]
        assert table.column("rlnTomoName") == ["t1", "t1"]
        assert table.column("rlnRandomSubset") == ["1", "2"]
        np.testing.assert_allclose(table.numbers("rlnAngleRot"), [10, -40])
        np.testing.assert_allclose(table.numbers("rlnAngleTilt"), [20, 150])
        np.testing.assert_allclose(table.numbers("rlnAnglePsi"), [30, 60])
        np.testing.assert_allclose(table.numbers("rlnAngleTiltPrior"), [90, 80])
        np.testing.assert_allclose(table.numbers("rlnAnglePsiPrior"), [10, -20])
        np.testing.assert_allclose(table.numbers("rlnDefocusU"), [3e4, 4e4])

    def test_tomograms_of_nearly_equal_voxels_keep_their_own(self, tmp_path):
        """A particle is at the voxel that its own tomogram's size says, and is read back where it was."""
        rng = np.random.default_rng(0)
        sizes = (10.0, 10.009)
        volumes = [rng.standard_normal((20, 20, 904)).astype(np.float32) for _ in sizes]
        paths = [
            write_tomogram(tmp_path / f"t{k}.mrc", v, size)
            for k, (v, size) in enumerate(zip(volumes, sizes, strict=True))
        ]
        tomograms = tuple(
            Tomogram(f"t{k}", path, voxel_size=size) for k, (path, size) in enumerate(zip(paths, sizes, strict=True))
        )
        positions = np.array([[900.0, 10, 10]] * 2) * np.array(sizes)[:, None]
        particles = ParticleSet(
            tmp_path / "picks.star", np.arange(2), positions=positions, tomograms=tomograms, tomogram=np.array([0, 1])
        )
        extract(particles, tmp_path / "out", box=4, normalise=False)
        for box, volume in zip(boxes_of(tmp_path / "out"), volumes, strict=True):
            np.testing.assert_array_equal(box, volume[8:12, 8:12, 898:902])
        found = io.read_particles(tmp_path / "out")
        assert found.positions is not None
        np.testing.assert_allclose(found.positions, positions, atol=1e-3)

    def test_poses_of_other_boxes_are_turned_into_the_frame_of_the_tomogram(self, noise, tmp_path):
        path, _ = noise
        frame, rotation = euler_to_matrix([[30, 40, 50]]), euler_to_matrix([[10, 80, -20]])
        particles = picks(
            path, [[20, 20, 20]], pose=Pose(rotation, np.ones((1, 3))), frames=frame, prior=np.array([[80.0, -20.0]]),
            volumes=ArrayVolumes(np.zeros((1, 8, 8, 8), np.float32)),
        )  # fmt: skip
        extract(particles, tmp_path / "out", box=16)
        table = StarFile.read(tmp_path / "out/particles.star").block("particles")
        rot, tilt, psi = (table.numbers(f"rlnAngle{k}")[0] for k in ("Rot", "Tilt", "Psi"))
        np.testing.assert_allclose(euler_to_matrix([rot, tilt, psi]), (frame @ rotation)[0], atol=1e-6)
        # rot is what a prior leaves free: tilt and psi are those of the particle for any rot
        np.testing.assert_allclose(table.numbers("rlnAngleTiltPrior")[0], tilt, atol=1e-5)
        np.testing.assert_allclose(table.numbers("rlnAnglePsiPrior")[0], psi, atol=1e-5)

    def test_an_existing_folder_is_refused_and_replaced_only_when_told(self, noise, tmp_path):
        path, _ = noise
        out = tmp_path / "out"
        extract(picks(path, [[20, 20, 20]]), out, box=16)
        with pytest.raises(InputError, match=r"exists already.*--overwrite"):
            extract(picks(path, [[20, 20, 20]]), out, box=12)
        with pytest.raises(InputError, match="reach over the edge"):
            extract(picks(path, [[2, 20, 20], [20, 20, 20]]), out, box=12, overwrite=True)
        assert boxes_of(out).shape == (1, 16, 16, 16)
        extract(picks(path, [[20, 20, 20]]), out, box=12, overwrite=True)
        assert boxes_of(out).shape == (1, 12, 12, 12)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["noise.mrc", "out"]

    def test_overwrite_spares_folders_that_are_no_extraction(self, noise, tmp_path):
        path, _ = noise
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis/chapter.txt").write_text("years of work")
        with pytest.raises(InputError, match=r"no extraction\.json"):
            extract(picks(path, [[20, 20, 20]]), tmp_path / "thesis", box=16, overwrite=True)
        assert (tmp_path / "thesis/chapter.txt").exists()

    def test_overwrite_spares_a_folder_that_is_read_from(self, noise, tmp_path):
        path, _ = noise
        out = tmp_path / "out"
        extract(picks(path, [[20, 20, 20]]), out, box=16)
        inside = path.rename(out / "noise.mrc")
        with pytest.raises(InputError, match=r"holds noise\.mrc"):
            extract(picks(inside, [[20, 20, 20]]), out, box=16, overwrite=True)
        assert inside.exists()

    def test_a_parent_that_is_a_file_is_refused(self, noise):
        path, _ = noise
        with pytest.raises(InputError, match=r"noise\.mrc is a file"):
            extract(picks(path, [[20, 20, 20]]), path / "deep/out", box=16)

    def test_an_interrupt_leaves_nothing_behind(self, noise, tmp_path):
        path, _ = noise

        def interrupt(*_: int) -> None:
            assert len(list(tmp_path.glob(".out.part-*/*"))) == 1  # the stack is being written
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            extract(picks(path, [[20, 20, 20], [21, 20, 20]]), tmp_path / "out", box=16, progress=interrupt)
        with pytest.raises(InputError, match="reach over"):
            extract(picks(path, [[2, 20, 20], [21, 20, 20]]), tmp_path / "new/folder/out", box=16)
        assert [p.name for p in tmp_path.iterdir()] == ["noise.mrc"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"positions": None}, "gives no positions"),
            ({"tomograms": ()}, r"which tomogram .*--tomograms .*--tomogram"),
            ({"tomograms": (Tomogram("TS_7", None),)}, r'"TS_7" was not found.*--tomograms .*--tomogram'),
            ({"tomograms": (Tomogram("TS_7", Path("/nowhere/TS_7.mrc")),)}, r"TS_7\.mrc does not exist"),
            ({"positions": np.array([[np.nan, 1, 1]])}, "no finite position for particle 0"),
        ],
    )
    def test_particles_that_cannot_be_extracted(self, noise, tmp_path, change, sentence):
        path, _ = noise
        with pytest.raises(InputError, match=sentence):
            extract(picks(path, [[20, 20, 20]], **change), tmp_path / "out", box=16)
        assert not (tmp_path / "out").exists()

    def test_no_particles(self, noise, tmp_path):
        with pytest.raises(InputError, match="holds no particles"):
            extract(picks(noise[0], np.zeros((0, 3))), tmp_path / "out", box=16)

    def test_a_voxel_size_that_nobody_knows(self, noise, tmp_path):
        with pytest.raises(InputError, match=r'"t".*--voxel-size'):
            extract(picks(noise[0], [[20, 20, 20]], tomograms=(Tomogram("t", noise[0]),)), tmp_path / "out", box=16)

    def test_tomograms_of_different_voxel_sizes(self, noise, tmp_path):
        tomograms = (Tomogram("a", noise[0], voxel_size=8.0), Tomogram("b", noise[0], voxel_size=10.0))
        particles = picks(noise[0], [[20, 20, 20]] * 2, tomograms=tomograms, tomogram=np.array([0, 1]))
        with pytest.raises(InputError, match=r'"b" has voxels of 10 A and "a" of 8 A'):
            extract(particles, tmp_path / "out", box=16)

    def test_a_tomogram_without_particles_does_not_matter(self, noise, tmp_path):
        tomograms = (Tomogram("gone", None), Tomogram("here", noise[0], voxel_size=8.0))
        particles = picks(noise[0], [[20, 20, 20]], tomograms=tomograms, tomogram=np.array([1]))
        record = extract(particles, tmp_path / "out", box=16)
        assert [t.name for t in record.tomograms] == ["here"]
        assert record.tomogram == (0,)

    @pytest.mark.parametrize("more", [{"bin": 0.5}, {"bin": float("nan")}, {"box": 1}, {"seed": -1}])
    def test_impossible_settings(self, noise, tmp_path, more):
        with pytest.raises(InputError):
            extract(picks(noise[0], [[20, 20, 20]]), tmp_path / "out", **({"box": 16} | more))

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [("{", "damaged"), ('{"schema_version": 99}', "newer"), ("{}", "damaged"), (None, "cannot be read")],
    )
    def test_a_record_that_is_damaged_or_of_the_future(self, tmp_path, text, sentence):
        if text is not None:
            (tmp_path / "extraction.json").write_text(text)
        with pytest.raises(InputError, match=sentence):
            ExtractionRecord.read(tmp_path)
