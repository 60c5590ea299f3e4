"""A code that the decoder heeds costs when it is permuted; one that it ignores does not."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.io.mrc import write_volume_stack
from napari_disentangle.models.harmony import Harmony
from napari_disentangle.run import Run
from napari_disentangle.training import fit, prepare
from napari_disentangle.training.informativeness import explained_variance


def test_permuting_what_the_decoder_heeds_costs(tiny_stack, tiny, tmp_path):
    """At the true poses and a high SNR the decoder learns what molecules look like: pose and content both matter."""
    settings = [
        *tiny,
        "pose.mode=fixed",
        "training.epochs=40",
        "training.fine_epochs=0",
        "training.learning_rate=0.003",
    ]
    run = prepare(tiny_stack, tmp_path / "run", settings=settings)
    for _ in fit(run, device="cpu"):
        pass
    found = explained_variance(run)
    assert found.own > 0
    assert set(found.permuted) == {"content", "transformation"}
    assert all(value < 0.9 * found.own for value in found.permuted.values())
    assert explained_variance(run) == found


def test_of_noise_nothing_is_explained_however_few_are_looked_at(tiny, tmp_path, monkeypatch):
    noise = np.random.default_rng(0).standard_normal((30, 16, 16, 16)).astype(np.float32)
    write_volume_stack(tmp_path / "noise.mrcs", noise, 10.0)
    run = prepare(tmp_path / "noise.mrcs", tmp_path / "run", settings=tiny)
    list(fit(run, device="cpu"))
    decode = Harmony.decode
    monkeypatch.setattr(Harmony, "decode", lambda *given: 0 * decode(*given))
    for most in (8, 30):
        assert explained_variance(run, most=most).own == pytest.approx(0, abs=0.01)


def test_a_decoder_that_ignores_its_code_loses_nothing(trained, monkeypatch):
    decode = Harmony.decode
    monkeypatch.setattr(Harmony, "decode", lambda self, c, t, size: decode(self, 0 * c, t, size))
    found = explained_variance(trained)
    assert found.permuted["content"] == found.own


def test_particles_are_standardised_as_in_training(trained, tmp_path):
    run = Run.open(shutil.copytree(trained.path, tmp_path / "run"))
    before, ids = explained_variance(run, most=10), run.ids()
    scale = run.scale(ids)
    assert scale is not None
    run.save_scale(ids, scale * np.array([1, 3], np.float32))
    assert abs(explained_variance(run, most=10).own) < abs(before.own) / 4


def test_a_model_that_decodes_nothing_is_refused(tiny_stack, tmp_path):
    run = prepare(tiny_stack, tmp_path / "run", settings=["training.coarse_size=8", "model.name=invariants"])
    with pytest.raises(InputError, match="Invariants has no decoder"):
        explained_variance(run)
