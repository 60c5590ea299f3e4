"""What training sees: sizes, scales and imported poses."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.fourier import fourier_crop
from napari_disentangle.geometry import euler_to_matrix, random_rotations
from napari_disentangle.particles import ArrayVolumes, ParticleSet, Pose, Tomogram
from napari_disentangle.recipe import Recipe
from napari_disentangle.training.inputs import geometry_of, read_inputs, suited

SETTINGS = ("training.coarse_size=8", "training.fine_size=16")


def recipe(*settings: str) -> Recipe:
    return Recipe().with_settings([*SETTINGS, *settings])


def particles(n: int = 40, box: int = 16, **more: object) -> ParticleSet:
    """Noise with a bright blob, in two tomograms."""
    rng = np.random.default_rng(0)
    axis = np.arange(box) - box // 2
    r2 = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    data = rng.standard_normal((n, box, box, box)) + rng.uniform(1, 4, n)[:, None, None, None] * np.exp(-r2 / 8)
    values = {
        "voxel_size": 10.0, "tomogram": np.arange(n) % 2, "tomograms": (Tomogram("a", tilt_range=(-60, 60)), Tomogram("b")),
    }  # fmt: skip
    return ParticleSet(Path("them.star"), np.arange(n) + 100, ArrayVolumes(data.astype(np.float32)), **(values | more))


def with_data(given: ParticleSet, data: np.ndarray) -> ParticleSet:
    return replace(given, volumes=ArrayVolumes(data))


@pytest.mark.parametrize(
    ("shape", "name", "settings", "rate"),
    [
        ((9, 16, 16), "dualcontrast", [], 0.002),
        ((9, 16, 16), "dualcontrast", ["training.learning_rate=0.001"], 0.001),
        ((9, 16, 16), "dualcontrast", ["training.learning_rate=0.0001"], 0.0001),
        ((9, 16, 16, 3), "dualcontrast", [], 0.001),
        ((9, 16, 16, 16), "dualcontrast", [], 0.001),
        ((9, 16, 16), "harmony", [], 0.001),
    ],
)  # fmt: skip
def test_grey_images_are_learned_at_a_rate_at_which_dualcontrast_leaves_its_plateau(shape, name, settings, rate):
    chosen = Recipe.chosen("standard", [f"model.name={name}", *settings])
    assert suited(chosen, with_data(particles(), np.zeros(shape)), settings).training.learning_rate == rate


class TestGeometry:
    def test_defaults_follow_the_box(self):
        found = geometry_of(particles(), recipe())
        assert (found.box, found.coarse, found.fine, found.voxel_size, found.edge) == (16, 8, 16, 10.0, 160.0)
        assert found.sphere == pytest.approx(1.1 / 1.6 / 2)
        assert found.max_shift == pytest.approx(0.25 / 1.6)

    def test_one_number_sets_sphere_and_shift(self):
        found = geometry_of(particles(), recipe("pose.diameter=80"))
        assert found.sphere * found.edge == pytest.approx(1.1 * 40)
        assert found.max_shift * found.edge == pytest.approx(20)
        imported = geometry_of(particles(), recipe("pose.diameter=80", "pose.mode=local"))
        assert imported.max_shift * imported.edge == pytest.approx(8)
        asked = geometry_of(particles(), recipe("pose.diameter=80", "pose.mode=local", "pose.max_shift=0.2"))
        assert asked.max_shift * asked.edge == pytest.approx(16)

    def test_a_large_particle_stays_in_its_box(self):
        found = geometry_of(particles(), recipe("pose.diameter=160", "pose.max_shift=0.5"))
        assert found.sphere == 0.5
        assert found.max_shift == 0.5

    @pytest.mark.parametrize(("box", "fine"), [(8, 8), (15, 8), (16, 16), (20, 16), (23, 16), (24, 16)])
    def test_the_fine_size_is_a_multiple_of_8_that_the_box_holds(self, box, fine):
        assert geometry_of(particles(box=box), recipe()).fine == fine

    def test_a_fractional_crop_keeps_the_edge(self):
        found = read_inputs(particles(box=20), recipe())
        assert found.batch(np.arange(3), 16, "cpu").volumes.shape == (3, 16, 16, 16)
        assert found.geometry.edge == 200

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            (with_data(particles(), np.zeros((40, 16, 12))), "16 x 12 pixels; give square"),
            (with_data(particles(), np.zeros((40, 6, 6, 3))), "smaller than 8"),
            (with_data(particles(), np.zeros((40, 16, 16, 15))), "not cubes"),
            (particles(box=7), "smaller than the 8"),
            (replace(particles(), voxel_size=None), "voxel size.*--voxel-size"),
            (replace(particles(), volumes=None), "positions.*extract"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_trained_on(self, given, sentence):
        for ask in (geometry_of, read_inputs):
            with pytest.raises(InputError, match=rf"them\.star.*{sentence}"):
                ask(given, recipe())

    def test_what_a_model_does_not_take(self):
        for model, data, sentence in (
            ("vitae", np.zeros((40, 16, 16, 16)), "holds 3D boxes; vitae trains on 2D images"),
            ("vae", np.zeros((40, 16, 16)), None),
        ):
            given, settings = with_data(particles(), data), recipe(f"model.name={model}")
            if sentence is None:
                assert geometry_of(given, settings).dims == 2
            else:
                with pytest.raises(InputError, match=rf"them\.star {sentence}"):
                    geometry_of(given, settings)

    @pytest.mark.parametrize(
        ("name", "data", "setting", "says"),
        [
            ("dualcontrast", np.zeros((40, 16, 16, 16)), "model.augmentation=blur", 'augmented by rotation; "blur" is for images'),
            ("dualcontrast", np.zeros((40, 16, 16)), "model.augmentation=hue", "them.star holds grey images, which have no hue"),
            ("harmony", np.zeros((40, 16, 16, 16)), "model.moves=rotation", "turned and shifted as pose.mode says"),
            ("spatial-vae", np.zeros((40, 16, 16)), "model.moves=scale", "SpatialVAE knows no scale; choose model.moves of rotation, tr"),
        ],
    )  # fmt: skip
    def test_what_these_particles_do_not_have_is_refused(self, name, data, setting, says):
        with pytest.raises(InputError, match=says):
            geometry_of(with_data(particles(), data.astype(np.float32)), recipe(f"model.name={name}", setting))

    def test_images_are_trained_at_one_even_size_and_standardised_together(self):
        rng = np.random.default_rng(0)
        for data, shape in ((rng.random((40, 15, 15)), (14, 14)), (rng.random((40, 64, 64, 3)), (3, 16, 16))):
            found = read_inputs(with_data(replace(particles(), voxel_size=None), data), recipe("training.fine_size=16"))
            assert found.coarse.shape == (40, *shape)
            assert found.geometry.coarse == found.geometry.fine == shape[-1]
            edges = [found.coarse[..., [0, -1], :].ravel(), found.coarse[..., 1:-1, [0, -1]].ravel()]
            assert abs(np.concatenate(edges).mean()) < 1e-3  # the background is 0
            assert abs(found.coarse.std() - 1) < 1e-3
            assert found.batch(np.arange(3), shape[-1], "cpu").volumes.shape == (3, *shape)

    def test_a_particle_that_does_not_fit(self):
        with pytest.raises(InputError, match="161 A does not fit into its box of 160 A"):
            geometry_of(particles(), recipe("pose.diameter=161"))


class TestScaling:
    def test_another_scale_of_one_tomogram_changes_nothing(self):
        given = particles()
        assert isinstance(given.volumes, ArrayVolumes)
        other = given.volumes.data.copy()
        other[given.tomogram == 1] = 7 * other[given.tomogram == 1] + 3
        a, b = read_inputs(given, recipe()), read_inputs(with_data(given, other), recipe())
        rows = np.arange(40)
        for size in (8, 16):
            one, two = (x.batch(rows, size, "cpu").volumes.numpy() for x in (a, b))
            np.testing.assert_allclose(one, two, atol=2e-4)
        np.testing.assert_allclose(a.invariants, b.invariants, atol=2e-4)
        np.testing.assert_allclose(b.scale[1] / a.scale[1], [7 + 3 / a.scale[1, 0], 7], rtol=1e-3)

    def test_the_background_is_standard_and_not_each_box_by_itself(self):
        given = particles(tomogram=None, tomograms=())
        assert isinstance(given.volumes, ArrayVolumes)
        data = given.volumes.data.copy()
        data[3] *= 5
        found = read_inputs(with_data(given, data), recipe()).batch(np.arange(40), 16, "cpu").volumes.numpy()
        corners = found[:, :2, :2]
        assert corners.mean() == pytest.approx(0, abs=0.1)
        assert 4 < corners[3].std() / corners[np.arange(40) != 3].std() < 6
        assert found[:, 8, 8, 8].mean() > 1  # the particle is no background

    def test_a_tomogram_of_few_shares_the_scale_of_all(self):
        given = particles(tomogram=np.r_[np.zeros(35, int), np.ones(5, int)])
        scale = read_inputs(given, recipe()).scale
        whole = read_inputs(replace(given, tomogram=None), recipe()).scale
        np.testing.assert_allclose(scale[-5:], whole[-5:])
        assert not np.allclose(scale[0], whole[0], rtol=1e-6)

    @pytest.mark.parametrize("images", [False, True])
    def test_few_are_standardised_as_all_were(self, images: bool):
        """Not as a tomogram of few, or another mean of images, would be."""
        given, settings = particles(tomogram=np.r_[np.zeros(30, int), np.ones(10, int)]), recipe()
        if images:
            assert isinstance(given.volumes, ArrayVolumes)
            given = replace(given, volumes=ArrayVolumes(given.volumes.data[:, 8]), tomogram=None)
        whole = read_inputs(given, settings)
        rows = np.array([0, 1, 2, 3, 4, 5, 35, 36])
        few = read_inputs(given.subset(rows), settings, scale=whole.scale[rows])
        np.testing.assert_allclose(few.coarse, whole.coarse[rows], atol=1e-5)
        np.testing.assert_array_equal(few.scale, whole.scale[rows])
        assert not np.allclose(read_inputs(given.subset(rows), settings).coarse, whole.coarse[rows], atol=1e-3)

    def test_the_coarse_stage_is_the_cropped_fine_stage(self):
        found = read_inputs(particles(), recipe())
        rows = np.array([5, 2, 39])
        coarse, fine = (found.batch(rows, size, "cpu").volumes.numpy() for size in (8, 16))
        np.testing.assert_allclose(coarse, fourier_crop(fine, 8), atol=1e-4)


class TestBatches:
    def test_every_row_brings_its_own(self):
        rng = np.random.default_rng(0)
        given = particles(
            frames=random_rotations(40, rng), pose=Pose(random_rotations(40, rng), rng.uniform(-9, 9, (40, 3)))
        )
        inputs = read_inputs(given, recipe("pose.mode=fixed"))
        rows = np.array([7, 0, 12])
        batch = inputs.batch(rows, 8, "cpu")
        assert batch.tilts is not None
        assert batch.tilts.tolist() == [[-90, 90], [-60, 60], [-60, 60]]
        assert batch.frames is not None
        np.testing.assert_allclose(batch.frames, given.frames[rows], atol=1e-6)
        np.testing.assert_allclose(batch.rotations, given.pose.rotations[rows], atol=1e-6)
        np.testing.assert_allclose(batch.shifts * 160, given.pose.offsets[rows], atol=1e-4)
        np.testing.assert_allclose(batch.invariants, inputs.invariants[rows])
        assert len(inputs) == 40
        assert np.isfinite(inputs.invariants).all()

    def test_no_wedge_where_none_is_known_or_heeded(self):
        assert read_inputs(particles(tomogram=None), recipe()).tilts is None
        assert read_inputs(particles(tomogram=None, tilt_range=(-90.0, 90.0)), recipe()).tilts is None
        assert read_inputs(particles(tomogram=None, tilt_range=(-60.0, 60.0)), recipe()).tilts is not None
        found = read_inputs(particles(), recipe("model.wedge=false"))
        assert (found.tilts, found.frames) == (None, None)

    def test_a_free_pose_knows_nothing_of_the_imported_one(self):
        given = particles(pose=Pose(random_rotations(40, np.random.default_rng(0)), np.ones((40, 3))))
        found = read_inputs(given, recipe())
        assert (found.rotations == np.eye(3)).all()
        assert not found.shifts.any()

    def test_a_prior_is_tilt_and_psi(self):
        prior = np.random.default_rng(0).uniform(10, 170, (40, 2))
        found = read_inputs(particles(prior=prior), recipe("pose.mode=prior"))
        np.testing.assert_allclose(found.rotations, euler_to_matrix(np.c_[np.zeros(40), prior]), atol=1e-6)

    @pytest.mark.parametrize("mode", ["local", "fixed", "prior"])
    def test_a_mode_needs_its_poses(self, mode):
        with pytest.raises(InputError, match=rf"them\.star has no .*--pose {mode}"):
            read_inputs(particles(), recipe(f"pose.mode={mode}"))


class TestReading:
    def test_progress_counts_to_the_end(self, monkeypatch):
        monkeypatch.setattr("napari_disentangle.training.inputs._VOXELS_AT_ONCE", 16 * 16**3)
        told: list[tuple[int, int]] = []
        read_inputs(particles(), recipe(), progress=lambda done, of: told.append((done, of)))
        assert told == [(16, 40), (32, 40), (40, 40)]

    def test_pieces_make_the_same_whole(self, monkeypatch):
        whole = read_inputs(particles(), recipe())
        monkeypatch.setattr("napari_disentangle.training.inputs._VOXELS_AT_ONCE", 1)
        pieces = read_inputs(particles(), recipe())
        np.testing.assert_allclose(whole.coarse, pieces.coarse, atol=1e-5)
        np.testing.assert_allclose(whole.invariants, pieces.invariants, atol=1e-4)

    def test_bad_voxels_name_their_particles_by_id(self):
        given = particles()
        assert isinstance(given.volumes, ArrayVolumes)
        given.volumes.data[[4, 30], 1, 1, 1] = np.nan
        given.volumes.data[11] = 0
        with pytest.raises(InputError, match=r"particles 104, 111, 130 .*have NaN"):
            read_inputs(given, recipe())

    def test_too_few(self):
        with pytest.raises(InputError, match=r"7 particles.*at least 8"):
            read_inputs(particles().subset(np.arange(7)), recipe())

    def test_memory_is_that_of_the_coarse_boxes(self):
        """20,000 boxes of 32 voxels are 2.6 GB; what is held must stay below 1.5 GB, so below 75 kB for each."""
        n = 1000

        class OnDisk:
            shape = (n, 32, 32, 32)

            def read(self, rows: np.ndarray) -> np.ndarray:
                return np.random.default_rng(int(rows[0])).standard_normal((len(rows), 32, 32, 32), dtype=np.float32)

        given = ParticleSet(Path("them.star"), np.arange(n), OnDisk(), 10.0, tilt_range=(-60.0, 60.0))
        tracemalloc.start()
        inputs = read_inputs(given, Recipe())
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert inputs.coarse.shape == (n, 16, 16, 16)
        assert held / n < 20e3  # 16 kB of coarse box and little else
        assert peak - held < 400e6  # a piece at work, however many there are
