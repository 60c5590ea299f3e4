"""The plugin as napari meets it, without a window: the manifest, and the samples in a viewer's model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_disentangle import _napari, io, sample

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache folder for the samples, so that the user's own is left alone."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "sample_folder", lambda: folder)
        yield folder


@pytest.fixture
def viewer(cache: Path) -> ViewerModel:  # noqa: ARG001 (samples opened in it are written there)
    from napari.components import ViewerModel
    from npe2 import PluginManager

    PluginManager.instance().discover()
    return ViewerModel()


def test_the_manifest_is_found_and_every_command_in_it_is_there():
    from npe2 import PluginManager

    manager = PluginManager()
    manager.discover()
    manifest = manager.get_manifest("napari-disentangle")
    commands = {command.id for command in manifest.contributions.commands or ()}
    assert commands >= {sample.command for sample in manifest.contributions.sample_data or ()}
    for command in manifest.contributions.commands or ():
        assert command.python_name
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name))


def test_the_stack_opens_as_boxes_with_a_scale_and_is_read_lazily(viewer: ViewerModel):
    (layer,) = viewer.open_sample("napari-disentangle", "stack")
    assert isinstance(layer.data, np.memmap)
    assert layer.data.shape[1:] == (32, 32, 32)
    assert tuple(layer.scale) == (1, 10, 10, 10)
    assert [str(unit) for unit in layer.units] == ["pixel", "angstrom", "angstrom", "angstrom"]
    assert len(io.read_particles(layer.metadata["particles"])) == len(layer.data)


def test_the_tomogram_opens_with_its_particles_where_they_are(viewer: ViewerModel, cache: Path):
    tomogram, particles = viewer.open_sample("napari-disentangle", "tomogram")
    assert tuple(tomogram.scale) == (10, 10, 10)
    for layer in (tomogram, particles):
        assert {str(unit) for unit in layer.units} == {"angstrom"}
    truth = np.genfromtxt(cache / "tomogram" / "truth.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    voxels = np.stack([truth["z"], truth["y"], truth["x"]], axis=1)
    np.testing.assert_allclose(tomogram.data_to_world(voxels[0]), particles.data_to_world(particles.data[0]), atol=0.01)
    np.testing.assert_allclose(particles.data, voxels * 10, atol=0.01)


def test_a_sample_is_written_once(cache: Path):
    _napari.sample_stack()
    stamp = (cache / "stack" / "particles.mrcs").stat().st_mtime_ns
    _napari.sample_stack()
    assert (cache / "stack" / "particles.mrcs").stat().st_mtime_ns == stamp
