"""Training on a GPU: what it finds, what it says, and runs that go from one device to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles
from napari_disentangle.selection import Selection
from napari_disentangle.stages import average_selection
from napari_disentangle.training import decode, encode_particles, fit, prepare
from napari_disentangle.training.informativeness import explained_variance

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_disentangle.run import Run


@pytest.fixture
def make(tiny_stack, tiny, tmp_path) -> Callable[..., Run]:
    """Prepare a run of the tiny stack, under a wedge."""

    def prepared(*settings: str) -> Run:
        return prepare(tiny_stack, tmp_path / "run", settings=[*tiny, *settings], reading={"tilt_range": (-60.0, 60.0)})

    return prepared


@pytest.mark.parametrize("model", ["harmony", "dualcontrast"])
@pytest.mark.parametrize("mode", ["free", "prior", "fixed"])
def test_a_run_goes_from_one_device_to_the_other(make, gpu, model, mode):
    run = make(f"model.name={model}", f"pose.mode={mode}", "pose.search=true", "training.posed_epochs=2")
    for progress in fit(run, device=gpu):
        if progress.epoch == 1 and progress.message:
            run.ask_to_stop()
    assert run.state() == "stopped"
    told = []
    for progress in fit(run, device="cpu"):
        told.append(progress.message)
        if progress.message.startswith("poses"):
            run.ask_to_stop()
    assert run.state() == "stopped"
    last = list(fit(run))[-1]
    assert last.message == "finished"
    assert torch.cuda.get_device_name(0) in last.device
    assert [event["device"] for event in run.events() if event["event"] == "started"] == ["cuda", "cpu", "cuda"]
    assert all(0 < event["memory_gb"] < 4 for event in run.events() if event["event"] == "epoch")
    codes = run.codes()
    assert np.isfinite(codes.content).all()
    assert np.isfinite(codes.transform).all()


def test_what_a_run_has_learnt_is_the_same_on_both(make, gpu, tiny_stack):
    run = make()
    list(fit(run, device=gpu))
    codes = run.codes()
    particles = read_particles(tiny_stack, tilt_range=(-60.0, 60.0))
    here, there = (encode_particles(run, particles, device=device) for device in ("cpu", gpu))
    np.testing.assert_allclose(there.content, codes.content, atol=1e-3)
    np.testing.assert_allclose(here.content, codes.content, atol=5e-3)
    (one, size), (other, also) = (decode(run, codes.content[:4], device=device) for device in ("cpu", gpu))
    assert size == also
    np.testing.assert_allclose(other, one, atol=1e-2 * np.abs(one).max())
    shown, also = (explained_variance(run, device=device) for device in ("cpu", gpu))
    assert also.own == pytest.approx(shown.own, abs=5e-3)
    one, other = (
        average_selection(run, Selection("A/0", codes.ids[:12]), rounds=1, starts=1, device=device).history
        for device in ("cpu", gpu)
    )
    assert [stage for stage, _ in one] == [stage for stage, _ in other]
    assert [score for _, score in other] == pytest.approx([score for _, score in one], rel=0.1)


def test_memory_that_runs_out_is_a_sentence(make, gpu):
    run = make("model.name=dualcontrast")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(InputError, match=r"memory ran out on GPU, .*smaller --set training.batch_size=4"):
            list(fit(run, device=gpu))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert run.state() == "failed"
    list(fit(run, device=gpu))
    assert run.state() == "finished"
