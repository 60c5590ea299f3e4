"""Checkpoints are whole or not there."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import torch

from napari_disentangle.errors import InputError
from napari_disentangle.models import build_model
from napari_disentangle.models.base import BY_FAMILY, MOST_FAMILIES, Spec
from napari_disentangle.run import checkpoint as module
from napari_disentangle.run.checkpoint import (
    Counters,
    checkpoint_folder,
    fingerprint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)

if TYPE_CHECKING:
    from pathlib import Path


class Little:
    """A linear layer with its optimiser and random numbers."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Linear(3, 2)
        self.optimiser = torch.optim.Adam(self.model.parameters(), 0.1)
        self.generator = torch.Generator().manual_seed(seed)

    def step(self) -> None:
        self.optimiser.zero_grad()
        self.model(torch.randn(5, 3, generator=self.generator)).square().sum().backward()
        self.optimiser.step()

    def save(self, folder: Path, epoch: int, **more: object) -> None:
        save_checkpoint(folder, self.model, self.optimiser, self.generator, Counters(epoch, 2 * epoch, 0.5, **more))

    def load(self, folder: Path) -> Counters:
        found = checkpoint_folder(folder)
        assert found is not None
        return load_checkpoint(found, self.model, self.optimiser, self.generator, "cpu")


def whole(folder: Path) -> bool:
    """Whether `current` names a checkpoint that can be loaded."""
    Little(5).load(folder)
    return True


def test_it_goes_on_where_it_was(tmp_path):
    one, other = Little(), Little(7)
    one.step()
    begun = one.generator.get_state()
    one.step()
    one.save(tmp_path, 4, epoch_random=begun)
    counters = other.load(tmp_path)
    assert (counters.epoch, counters.step, counters.seconds) == (4, 8, 0.5)
    assert counters.epoch_random is not None
    assert torch.equal(counters.epoch_random, begun)
    one.step()
    other.step()
    assert torch.equal(one.model.weight, other.model.weight)
    assert other.optimiser.param_groups[0]["lr"] == 0.1


def test_one_older_is_kept(tmp_path):
    little = Little()
    names = []
    for epoch in (1, 2, 2, 3):  # a stop in epoch 2 makes two of them
        little.step()
        little.save(tmp_path, epoch)
        names.append((tmp_path / "current").read_text())
    assert len(set(names)) == 4
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == names[-2:]
    assert json.loads((tmp_path / "checkpoints" / names[-1] / "state.json").read_text())["epoch"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "current"]


def test_current_names_a_whole_checkpoint_whenever_the_power_fails(tmp_path, monkeypatch):
    """Every call that changes a file is the last one, in turn."""
    little = Little()
    little.save(tmp_path, 1)
    calls = ["os.replace", "_write", "shutil.rmtree"]
    for name in calls:
        for after in range(4):
            owner, _, attribute = name.rpartition(".")
            where = getattr(module, owner) if owner else module
            original, count = getattr(where, attribute), [0]

            def failing(*args: object, original=original, count=count, after=after, **kwargs: object) -> object:
                count[0] += 1
                if count[0] > after:
                    raise SystemExit
                return original(*args, **kwargs)

            with monkeypatch.context() as patch:
                patch.setattr(where, attribute, failing)
                with suppress(SystemExit):
                    little.save(tmp_path, 1)  # the same epoch again, as after a stop
            assert whole(tmp_path), (name, after)
    little.save(tmp_path, 2)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2  # what was left half-written is gone


def test_an_error_while_writing_leaves_nothing(tmp_path, monkeypatch):
    little = Little()
    little.save(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("safetensors.torch.save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="full"):
        little.save(tmp_path, 2)
    assert sorted(tmp_path.rglob("*")) == before


def test_before_the_first_there_is_none(tmp_path):
    assert checkpoint_folder(tmp_path) is None


def test_a_damaged_run_says_so_and_does_not_start_afresh(tmp_path):
    Little().save(tmp_path, 1)
    name = (tmp_path / "current").read_text()
    os.remove(tmp_path / "checkpoints" / name / "model.safetensors")
    with pytest.raises(InputError, match=rf"names checkpoint {name}, which is not whole"):
        checkpoint_folder(tmp_path)


def test_a_newer_schema_is_refused(tmp_path):
    little = Little()
    little.save(tmp_path, 1)
    state = next((tmp_path / "checkpoints").rglob("state.json"))
    state.write_text(json.dumps(json.loads(state.read_text()) | {"schema_version": 2}))
    before = little.model.weight.clone()
    with pytest.raises(InputError, match="newer napari-disentangle"):
        little.load(tmp_path)
    assert torch.equal(little.model.weight, before)


def test_the_fingerprint_is_that_of_the_weights(tmp_path):
    def of(little: Little, folder: Path, epoch: int) -> str:
        folder.mkdir(exist_ok=True)
        little.save(folder, epoch)
        found = checkpoint_folder(folder)
        assert found is not None
        return fingerprint(found)

    one = Little()
    assert of(one, tmp_path / "a", 1) == of(one, tmp_path / "b", 2)
    before = of(one, tmp_path / "a", 1)
    one.step()
    assert of(one, tmp_path / "a", 1) != before
    assert len(before) == 64


def test_nothing_is_pickled(tmp_path):
    little = Little()
    little.step()
    little.save(tmp_path, 1)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.name for p in files} == {"current", "model.safetensors", "optimiser.safetensors", "state.json"}
    for path in files:
        length = int.from_bytes(path.read_bytes()[:8], "little")
        if path.suffix == ".safetensors":  # a header in JSON, and numbers
            json.loads(path.read_bytes()[8 : 8 + length])
        else:
            path.read_text()


def test_what_an_earlier_version_knew_of_fewer_families_is_kept(tmp_path: Path) -> None:
    spec = Spec(dims=3, coarse=24, fine=24, sphere=0.4, features=6)
    models = [build_model("dualcontrast", spec) for _ in range(2)]
    grown = {name for name, buffer in models[0].named_buffers() if buffer.shape[:1] == (MOST_FAMILIES,)}
    assert grown == set(BY_FAMILY)
    for name in grown:  # as it was saved when there were half as many
        path, _, key = name.rpartition(".")
        models[0].get_submodule(path).register_buffer(
            key, torch.rand_like(models[0].get_buffer(name))[: MOST_FAMILIES // 2]
        )
    optimiser = torch.optim.Adam(models[0].parameters())
    save_checkpoint(tmp_path, models[0], optimiser, torch.Generator(), Counters(1, 1, 1.0))
    found = checkpoint_folder(tmp_path)
    assert found is not None
    load_weights(found, models[1])
    for name in grown:
        old, new = models[0].get_buffer(name), models[1].get_buffer(name)
        assert torch.equal(new[: len(old)], old)
        assert not new[len(old) :].any()
