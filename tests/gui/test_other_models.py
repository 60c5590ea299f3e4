"""Runs of models without poses, without a decoder, or with one code for all: what there is not, the window says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from driving import Window, click
from qtpy.QtCore import Qt

from napari_disentangle.averaging import Average
from napari_disentangle.export.average import write_average
from napari_disentangle.gui.training_panel import misfit
from napari_disentangle.models import MODELS
from napari_disentangle.models.base import Codes
from napari_disentangle.particles import ArrayVolumes, Pose
from napari_disentangle.run import Embedding, Run
from napari_disentangle.selection import Selection
from napari_disentangle.session import read_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qtpy.QtWidgets import QComboBox

UNDECODED = "SimCLR, discriminative has no decoder: there is no volume of the model to show."


@pytest.fixture
def made(trained: Run, tmp_path: Path) -> Callable[..., Run]:
    """Make a run of a model, with codes of some dimensions and no poses, maps of content, and two groups."""

    def make(model: str, dimensions: int) -> Run:
        path = shutil.copytree(trained.path, tmp_path / model)
        text = (path / "recipe.toml").read_text()
        assert 'name = "harmony"' in text
        (path / "recipe.toml").write_text(text.replace('name = "harmony"', f'name = "{model}"'))
        run = Run.open(path)
        codes = run.codes()
        transform = np.random.default_rng(0).standard_normal((len(codes.ids), dimensions)).astype(np.float32)
        run.save_codes(Codes(codes.ids, codes.content, transform, None, codes.epoch, codes.fingerprint))
        for method in ("umap", "pca"):
            run.save_embedding(Embedding("content", method, codes.ids, codes.content[:, :2], codes.fingerprint))
        halves = np.array_split(codes.ids, 2)
        run.save_selections("auto", [Selection(f"auto/{k}", ids) for k, ids in enumerate(halves)])
        return run

    return make


@pytest.fixture(autouse=True)
def asked(window: Window, monkeypatch) -> list[dict[str, Any]]:
    """What the helper is asked for: nothing is answered, because the weights of these runs are another model's."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(window.bench.helper, "ask", lambda task, given, **_: found.append({"task": task, **given}))
    return found


def offered(box: QComboBox) -> dict[str, bool]:
    """The items of a menu, and which of them can be chosen."""
    model: Any = box.model()
    return {box.itemText(k): bool(model.item(k).isEnabled()) for k in range(box.count()) if box.itemText(k)}


def averaged(run: Run, *, decoded: bool) -> None:
    """Write an average into a run, as `average_selection` does, from numbers."""
    ids = run.selection("auto/0").ids
    n = len(ids)
    volume = np.random.default_rng(1).standard_normal((16, 16, 16)).astype(np.float32)
    pose = Pose(np.broadcast_to(np.eye(3), (n, 3, 3)), np.zeros((n, 3)))
    curve = np.linspace(0, 0.025, 9), np.linspace(1, 0, 9)
    found = Average(volume, volume, volume, *curve, 80.0, n, ids, pose, 1 + np.arange(n) % 2, 20.0, 1)
    own = (volume, 20.0) if decoded else (None, None)
    write_average(found, *own, run.average_folder("auto/0"), "auto/0", "free", run.codes().fingerprint, overwrite=False)


def test_without_poses_its_transformation_is_mapped_as_a_code(window: Window, made):
    run = made("vae-two-spaces", 3)
    window.open_run(run.path)
    view = window.maps.transform
    assert offered(view.kind) == {"view sphere": False, "UMAP of the code": True, "PCA of the code": True}
    assert view.kind.currentData() == "umap"
    assert view.canvas._pane.message == "Not made yet; Update makes it."
    codes = run.codes()
    run.save_embedding(Embedding("transform", "umap", codes.ids, codes.transform[:, :2], codes.fingerprint))
    window.bench.refresh()
    window.until(lambda: view.coordinates is not None)
    np.testing.assert_array_equal(view.coordinates, codes.transform[:, :2])
    assert view.described == "transform (umap)"
    assert offered(window.maps.colour)["shift"] is False
    window.maps.colour.setCurrentText("content 2")
    window.bench.session.select(codes.ids[:5], {"tool": "test"})
    click(window.maps.export)
    dialog = window.dialog()
    assert not dialog.poses.isEnabled()
    dialog.reject()
    window.settle()
    assert window.errors == []


def test_a_run_with_poses_after_one_without_has_its_view_sphere_again(window: Window, made, trained, tmp_path):
    window.open_run(made("vae-two-spaces", 3).path)
    window.open_run(shutil.copytree(trained.path, tmp_path / "posed"))
    view = window.maps.transform
    assert all(offered(view.kind).values())
    assert view.kind.currentData() == "views"
    assert view.coordinates.shape == (30, 2)
    window.settle()


def test_with_one_code_for_all_there_is_no_transformation(window: Window, made):
    run = made("vae", 0)
    window.open_run(run.path)
    maps, view = window.maps, window.maps.transform
    assert view.coordinates is None
    assert view.canvas._pane.message == "VAE has one code for all: there is no transformation to map."
    assert not view.kind.isEnabled()
    assert not view.update_button.isVisible()
    assert offered(maps.space) == {"content": True, "transform": False}
    assert maps.content.coordinates.shape == (30, 2)
    window.bench.session.select(window.bench.session.ids[:5], {"tool": "test"})
    window.settle()
    assert window.errors == []


def test_without_a_decoder_no_volume_of_the_model_is_offered(window: Window, made, asked):
    run = made("simclr", 3)
    averaged(run, decoded=False)
    window.open_run(run.path)
    bench, maps, panel = window.bench, window.maps, window.rooms.averages
    assert bench.no_decoder == UNDECODED
    assert window.rooms.training.watched._message == UNDECODED

    bench.results.show_particle(int(bench.session.ids[3]))
    window.until(lambda: len(maps.particle._shown) == 1)
    assert maps.particle._shown[0].note == f"raw, low-passed. {UNDECODED}"

    window.rooms.tabs.setCurrentIndex(2)
    panel.of.setCurrentIndex(panel.of.findData("auto/0"))
    panel.difference.setChecked(True)
    window.until(lambda: [one.title for one in panel._shown] == ["raw average"])
    assert UNDECODED in panel.facts.text()
    assert not panel.decoded.isVisible()
    assert not panel.difference.isVisible()
    bench.results.average([run.selection("auto/1")])
    bench.training.watch_particles()
    tasks = [one["task"] for one in asked]
    assert "average" in tasks
    assert "reconstruct" not in tasks
    window.settle()
    assert window.errors == []


def test_poses_that_the_model_does_not_know_are_searched_for_an_average(window: Window, made, asked):
    run = made("simclr", 3)
    window.open_run(run.path)
    window.bench.results.average([run.selection("auto/1")])
    how = next(one for one in asked if one["task"] == "average")
    # no mode: averaging itself searches freely where a run has no poses (tests/test_stages.py)
    assert (how["mode"], how["rounds"], how["starts"]) == (None, 1, 1)


def test_the_papers_models_stand_first_in_the_menu_and_all_others_below(window: Window):
    menu = window.rooms.training.model
    names = [menu.itemData(k) for k in range(menu.count())]
    assert names[:2] == ["harmony", "dualcontrast"]
    assert menu.itemText(3) == "all methods"
    assert {name for name in names if name is not None} == set(MODELS)
    assert not any(MODELS[name].first for name in names[4:])
    can = offered(menu)
    assert can["all methods"] is False
    for k, name in enumerate(names):
        if name is None:
            continue
        info, tip = MODELS[name], menu.itemData(k, Qt.ItemDataRole.ToolTipRole)
        assert can[info.title] is (3 in info.dimensions)
        assert tip == (info.summary if 3 in info.dimensions else misfit(info, 3))
    assert misfit(MODELS["vitae"], 3) == "VITAE takes images only, and volumes are open."


def test_models_that_cannot_take_images_are_not_offered_for_them(window: Window, trained: Run, monkeypatch):
    panel, session = window.rooms.training, window.bench.session
    session.set_run(read_run(trained))
    menu = panel.model
    menu.setCurrentIndex(menu.findData("vae"))
    assert "model.name=vae" in panel.settings()
    monkeypatch.setitem(MODELS, "vae", replace(MODELS["vae"], dimensions=(3,)))
    images = ArrayVolumes(np.zeros((30, 16, 16), np.float32))
    session.particles = replace(session.particles, volumes=images)
    session.run_changed.emit()
    assert offered(menu)["VITAE"] is True
    assert offered(menu)["VAE"] is False
    assert menu.itemData(menu.findData("vae"), Qt.ItemDataRole.ToolTipRole) == (
        "VAE takes volumes only, and images are open."
    )
    assert menu.currentData() == "harmony", "what was chosen cannot take them"
    assert "model.name=harmony" in panel.settings()


def test_advanced_settings_are_those_that_mean_something_to_the_model(window: Window):
    window.rooms.tabs.setCurrentWidget(window.rooms.tabs.widget(1))
    panel = window.rooms.training
    menu, form = panel.model, panel._settings

    def shown() -> set[str]:
        return {one.name for one in form if not one.native.isHidden()}

    def chosen(model: str) -> None:
        menu.setCurrentIndex(menu.findData(model))

    every = {one.name for one in form}
    training = {name for name in every if name.startswith("training.")}
    for model in ("harmony", "vae", "dualcontrast"):
        chosen(model)
        assert shown() == training | (every & {f"model.{name}" for name in MODELS[model].settings})
    assert "model.exchange" in shown()
    form["model.exchange"].value = False
    assert "model.exchange=False" in panel.settings()
    chosen("vae")
    assert not any("exchange" in one for one in panel.settings()), "what the model does not heed is not given to it"
