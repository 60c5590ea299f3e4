"""A trained model gives the same codes again, and volumes in Angstrom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles
from napari_disentangle.io.mrc import write_volume_stack
from napari_disentangle.run import Run
from napari_disentangle.training import decode, encode_particles, fit, load_model, prepare


def test_the_same_particles_have_the_same_codes(trained):
    stored = trained.codes()
    found = encode_particles(trained, trained.particles())
    np.testing.assert_array_equal(found.ids, stored.ids)
    np.testing.assert_allclose(found.content, stored.content, atol=1e-5)
    np.testing.assert_allclose(found.transform, stored.transform, atol=1e-4)
    assert (found.fingerprint, found.epoch) == (stored.fingerprint, stored.epoch)


def test_in_another_order_each_keeps_its_code(trained):
    order = np.random.default_rng(0).permutation(30)
    found = encode_particles(trained, trained.particles().subset(order))
    np.testing.assert_array_equal(found.ids, order)
    np.testing.assert_allclose(found.content, trained.codes().content[order], atol=1e-4)


def test_it_told_of_its_progress(trained):
    told: list[tuple[int, int]] = []
    encode_particles(trained, trained.particles(), progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (30, 30)


def test_codes_tell_molecules_apart(trained):
    """Two kinds of very different size, at a high SNR: anything that learns sees them."""
    import csv

    with (trained.particles().path.parent / "full/truth.csv").open(newline="") as file:
        identity = np.array([row["identity"] for row in csv.DictReader(file)])
    content = trained.codes().content
    large, small = content[identity == "groel-groes"], content[identity == "nucleosome"]
    axis = large.mean(0) - small.mean(0)
    apart = np.abs(axis @ axis) / np.linalg.norm(axis)
    spread = max((large @ axis).std(), (small @ axis).std()) / np.linalg.norm(axis)
    assert apart > 2 * spread


def test_boxes_of_another_size_are_refused(trained, tmp_path):
    given = trained.particles()
    with pytest.raises(InputError, match=r"boxes of 480 A .* do not fit .*320 A.*extract them in the same way"):
        encode_particles(trained, replace(given, voxel_size=30.0))
    noise = np.random.default_rng(0).standard_normal((9, 24, 24, 24)).astype(np.float32)
    write_volume_stack(tmp_path / "large.mrcs", noise, 20.0)
    with pytest.raises(InputError, match="do not fit"):
        encode_particles(trained, read_particles(tmp_path / "large.mrcs"))


class TestDecoding:
    def test_shape_and_voxel_size(self, trained):
        volumes, voxel = decode(trained, trained.codes().content[:4])
        assert (volumes.shape, volumes.dtype, voxel) == ((4, 16, 16, 16), np.float32, 20.0)
        assert np.isfinite(volumes).all()
        assert np.abs(volumes).max() > 0

    def test_without_a_fine_stage_it_is_coarse(self, tiny_stack, tiny, tmp_path):
        run = prepare(tiny_stack, tmp_path / "run", settings=[*tiny, "training.fine_epochs=0", "training.epochs=1"])
        list(fit(run, device="cpu"))
        volumes, voxel = decode(run, [[0.0, 0, 0]])
        assert (volumes.shape, voxel) == ((1, 8, 8, 8), 40.0)

    def test_the_same_content_is_the_same_volume_alone_or_among_others(self, trained):
        content = trained.codes().content
        together, _ = decode(trained, content)
        alone, _ = decode(trained, content[7:8])
        np.testing.assert_allclose(alone[0], together[7], atol=1e-4)


def test_before_training_there_is_no_model(tiny_stack, tiny, tmp_path):
    run = prepare(tiny_stack, tmp_path / "run", settings=tiny)
    for ask in (
        lambda: load_model(run),
        lambda: decode(run, [[0.0, 0, 0]]),
        lambda: encode_particles(run, run.particles()),
    ):
        with pytest.raises(InputError, match="no model yet; train it first"):
            ask()


def test_a_copied_run_works_where_it_is(trained, tmp_path):
    import shutil

    shutil.copytree(trained.path, tmp_path / "copy")
    found = encode_particles(Run.open(tmp_path / "copy"), trained.particles())
    np.testing.assert_allclose(found.content, trained.codes().content, atol=1e-5)
