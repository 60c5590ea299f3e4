"""A code that the decoder heeds costs when it is permuted; one that it ignores does not."""

from __future__ import annotations

from napari_disentangle.models.harmony import Harmony
from napari_disentangle.training import fit, prepare
from napari_disentangle.training.informativeness import reconstruction_errors


def test_permuting_what_the_decoder_heeds_costs(tiny_stack, tiny, tmp_path):
    """At the true poses and a high SNR the decoder learns what molecules look like: pose and content both matter."""
    settings = [
        *tiny,
        "pose.mode=fixed",
        "training.epochs=60",
        "training.fine_epochs=0",
        "training.learning_rate=0.003",
    ]
    run = prepare(tiny_stack, tmp_path / "run", settings=settings)
    for _ in fit(run, device="cpu"):
        pass
    errors = reconstruction_errors(run)
    assert errors.transform_permuted > 1.2 * errors.own
    assert errors.content_permuted > 1.2 * errors.own
    assert reconstruction_errors(run) == errors


def test_a_decoder_that_ignores_its_code_loses_nothing(trained, monkeypatch):
    decode = Harmony.decode
    monkeypatch.setattr(Harmony, "decode", lambda self, content, size: decode(self, 0 * content, size))
    errors = reconstruction_errors(trained)
    assert errors.content_permuted == errors.own
