"""What a training has learnt, in words that are true, and the doubts that belong to them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import chisquare

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import euler_to_matrix
from napari_disentangle.io.compose import star_text
from napari_disentangle.learnt import SECTORS, learnt_in_words, view_map, views_covered
from napari_disentangle.models.base import Codes
from napari_disentangle.models.vae import VAE
from napari_disentangle.particles import Pose
from napari_disentangle.run import Run
from napari_disentangle.selection import Selection
from napari_disentangle.training import fit, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def uniform(n: int, seed: int = 0) -> np.ndarray:
    """Random rotations (n, 3, 3), uniform over SO(3)."""
    return Rotation.random(n, np.random.default_rng(seed)).as_matrix()


def about_the_beam(n: int) -> np.ndarray:
    """Rotations (n, 3, 3) of the box about its z axis: the same view, turned in the image."""
    return Rotation.from_euler("z", np.linspace(0, 350, n)[:, None], degrees=True).as_matrix()


class TestViews:
    def test_random_rotations_are_seen_from_everywhere(self):
        assert views_covered(uniform(2000)) > 0.97

    def test_turning_in_the_image_is_no_new_view(self):
        one = uniform(1)[0]
        assert views_covered(about_the_beam(36) @ one) == 1 / SECTORS

    def test_turning_the_reference_is(self):
        """About any axis but the beam's: a circle of views from pole to pole."""
        assert (
            views_covered(Rotation.from_euler("x", np.arange(360)[:, None], degrees=True).as_matrix()) >= 12 / SECTORS
        )

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_from_one_side_half_is_covered(self, axis, sign):
        every = uniform(5000)
        assert views_covered(every[every[:, 2, axis] * sign > 0]) == 0.5

    def test_few_particles_cover_what_few_can(self):
        assert views_covered(np.zeros((0, 3, 3))) == 0
        assert views_covered(uniform(1)) == 1 / SECTORS
        assert 5 / SECTORS < views_covered(uniform(10)) <= 10 / SECTORS

    def test_all_parts_are_as_large(self):
        """Of n uniform views each of the 48 parts is missed with (1 - 1/48)^n."""
        n = 96
        seen = np.mean([views_covered(uniform(n, seed)) for seed in range(200)])
        assert seen == pytest.approx(1 - (1 - 1 / SECTORS) ** n, abs=0.01)


class TestViewMap:
    def test_areas_are_kept(self):
        """Uniform views are uniform in the ellipse: in scaled radius squared, in angle, and in both together."""
        places = view_map(uniform(40_000)).astype(np.float64) / [2 * np.sqrt(2), np.sqrt(2)]
        radius2, angle = (places**2).sum(1), np.arctan2(places[:, 1], places[:, 0])
        assert radius2.max() <= 1 + 1e-6
        counts = np.histogram2d(radius2, angle, [np.linspace(0, 1 + 1e-6, 9), np.linspace(-np.pi, np.pi, 17)])[0]
        assert chisquare(counts.ravel()).pvalue > 1e-3
        assert chisquare(counts.sum(0)).pvalue > 1e-3
        assert chisquare(counts.sum(1)).pvalue > 1e-3

    def test_every_view_has_a_place(self):
        """Also the poles, and the line where longitude jumps."""
        views = euler_to_matrix(np.array([(a, b, 17) for a in range(-180, 181, 45) for b in range(0, 181, 45)], float))
        found = view_map(np.concatenate([views, np.eye(3)[None], -np.eye(3)[None], uniform(1000)]))
        assert found.dtype == np.float32
        assert np.isfinite(found).all()

    def test_it_is_of_the_view_alone(self):
        one = uniform(1)[0]
        found = view_map(about_the_beam(36) @ one)
        np.testing.assert_allclose(found, np.repeat(found[:1], 36, 0), atol=1e-5)

    def test_seen_along_z_is_the_top_and_along_x_the_middle(self):
        np.testing.assert_allclose(view_map(np.eye(3)[None]), [[0, np.sqrt(2)]], atol=1e-6)
        along_x = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], float)  # the box's z is the reference's x
        np.testing.assert_allclose(view_map(along_x[None]), [[0, 0]], atol=1e-6)

    def test_neighbours_stay_neighbours(self):
        places = view_map(euler_to_matrix(np.array([(0, 80, 0), (0, 81, 0)], float)))
        assert 0 < np.linalg.norm(places[1] - places[0]) < 0.03


class TestWords:
    @pytest.fixture
    def run(self, trained: Run, tmp_path: Path) -> Run:
        return Run.open(shutil.copytree(trained.path, tmp_path / "run"))

    def test_of_a_trained_run(self, run):
        run.save_selections("A", [Selection("A/0", np.arange(20)), Selection("A/1", np.arange(20, 27))])
        run.save_selections("AB", [Selection("AB/0", np.arange(3))])
        words, _ = learnt_in_words(run, "A")
        assert words[0] == "2 groups in content (20, 7 particles)."
        assert words[1] == f"Poses cover {views_covered(run.codes().pose.rotations):.0%} of all views."
        run.save_selections("A", [Selection("A/0", np.arange(20))])
        assert learnt_in_words(run, "A")[0][0] == "One group in content."
        assert len(learnt_in_words(run, "C")[0]) == 1, "of groups that are not there it says nothing"

    def test_poses_that_crowd_are_doubted_and_those_all_around_are_not(self, run):
        codes = run.codes()
        offsets = np.zeros((30, 3))
        run.save_codes(replace(codes, pose=Pose(about_the_beam(30), offsets)))
        words, doubts = learnt_in_words(run, "A")
        assert words == ["Poses cover 2% of all views."]
        assert any("Poses crowd into 2% of all views" in doubt for doubt in doubts)
        run.save_codes(replace(codes, pose=Pose(uniform(30), offsets)))
        assert not any("Poses" in doubt for doubt in learnt_in_words(run, "A")[1])

    def test_few_that_lie_as_apart_as_few_can_are_not_doubted(self, run):
        codes = run.codes()
        pose = Pose(uniform(10), np.zeros((10, 3)))
        run.save_codes(Codes(codes.ids[:10], codes.content[:10], codes.transform[:10], pose, 3, "abc"))
        assert views_covered(pose.rotations) < 0.25
        assert not any("Poses" in doubt for doubt in learnt_in_words(run, "A")[1])

    def test_without_poses_it_says_nothing_of_them(self, run):
        run.save_codes(replace(run.codes(), pose=None))
        assert learnt_in_words(run, "A") == ([], [])

    def test_content_that_is_the_same_for_all_is_doubted(self, run):
        codes = run.codes()
        run.save_codes(replace(codes, content=np.full_like(codes.content, 3.0)))
        assert any("Content is the same for all particles" in doubt for doubt in learnt_in_words(run, "A")[1])
        assert not any("same for all" in doubt for doubt in self.doubts_of(run, codes))

    @staticmethod
    def doubts_of(run: Run, codes: Codes) -> list[str]:
        run.save_codes(codes)
        return learnt_in_words(run, "A")[1]

    def test_before_training_there_is_nothing_to_say(self, run):
        (run.path / "codes.npz").unlink()
        with pytest.raises(InputError, match="no codes yet"):
            learnt_in_words(run, "A")


@pytest.fixture(scope="module")
def lying(tiny_stack, tiny, tmp_path_factory) -> Run:
    """A run of a model whose transformation code says how particles lie."""
    settings = [*(one for one in tiny if not one.startswith("pose.")), "training.epochs=60", "training.fine_epochs=0"]
    settings += ["training.learning_rate=0.003", "model.name=vae-two-spaces"]
    run = prepare(tiny_stack, tmp_path_factory.mktemp("lying") / "run", settings=settings)
    list(fit(run, device="cpu"))
    return run


class TestTransformations:
    def test_one_that_the_decoder_heeds_is_not_doubted(self, lying):
        assert learnt_in_words(lying, "A")[1] == []

    def test_one_that_it_ignores_is(self, lying, monkeypatch):
        decode = VAE.decode
        monkeypatch.setattr(VAE, "decode", lambda self, c, t, size: decode(self, c, 0 * t, size))
        (doubt,) = learnt_in_words(lying, "A")[1]
        assert doubt.startswith(
            "With another particle's transformation code only 0% of what decoded particles explain is lost"
        )

    def test_so_are_decoded_particles_like_none(self, lying, monkeypatch):
        decode = VAE.decode
        monkeypatch.setattr(VAE, "decode", lambda *given: 99 + decode(*given))
        (doubt,) = learnt_in_words(lying, "A")[1]
        assert doubt.startswith("Decoded particles explain nothing of the data yet")


class TestTomograms:
    @pytest.fixture
    def of(self, tiny_stack, tiny, tmp_path) -> Callable[..., Run]:
        """Return a run whose particles are in tomograms of those names, with these codes."""

        def made(names: list[str], content: np.ndarray, ids: np.ndarray | None = None) -> Run:
            shutil.copy(tiny_stack.with_suffix(".mrcs"), tmp_path)
            table = {"rlnImageName": [f"{k + 1:06d}@particles.mrcs" for k in range(30)], "rlnTomoName": names}
            table |= {f"rlnCoordinate{axis}": [float(k) for k in range(30)] for axis in "XYZ"} | {
                "rlnOpticsGroup": [1] * 30
            }
            optics = {"rlnOpticsGroup": [1], "rlnImagePixelSize": [20.0], "rlnTomoTiltSeriesPixelSize": [20.0]}
            (tmp_path / "particles.star").write_text(star_text({"optics": optics, "particles": table}))
            run = prepare(tmp_path / "particles.star", tmp_path / "run", settings=tiny)
            ids = np.arange(30) if ids is None else ids
            assert run.particles().tomogram is not None
            run.save_codes(Codes(ids, content.astype(np.float32), np.zeros((len(ids), 12), np.float32), None, 1, "abc"))
            return run

        return made

    NOISE = np.random.default_rng(0).standard_normal((30, 3))

    def test_content_that_predicts_the_tomogram_is_doubted(self, of):
        names = ["one", "two", "three"] * 10
        content = self.NOISE + 9 * np.array([["one", "two", "three"].index(name) for name in names])[:, None]
        (doubt,) = learnt_in_words(of(names, content), "A")[1]
        assert doubt.startswith("Content predicts the tomogram at 1.00, chance 0.33")

    def test_so_it_is_when_codes_are_in_another_order_than_the_list(self, of):
        names = ["one"] * 15 + ["two"] * 15
        ids = np.random.default_rng(1).permutation(30)
        content = self.NOISE + 9 * (ids >= 15)[:, None]
        (doubt,) = learnt_in_words(of(names, content, ids), "A")[1]
        assert "at 1.00, chance 0.50" in doubt

    def test_content_that_does_not_is_not(self, of):
        assert learnt_in_words(of(["one", "two", "three"] * 10, self.NOISE), "A")[1] == []

    @pytest.mark.parametrize(
        "names",
        [["one"] * 30, [f"t{k // 2}" for k in range(30)], ["one"] * 25 + ["two"] * 5],
        ids=["one", "many", "few"],
    )
    def test_tomograms_of_too_few_particles_say_nothing(self, of, names):
        content = self.NOISE + 9 * np.unique(names, return_inverse=True)[1][:, None]
        assert learnt_in_words(of(names, content), "A")[1] == []
