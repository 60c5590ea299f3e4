"""The helper process, as a process: what is asked on its standard input is answered on its standard output."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_disentangle.geometry import place_volumes
from napari_disentangle.io import read_particles
from napari_disentangle.run import Run
from napari_disentangle.sample import MAPS
from napari_disentangle.selection import Selection
from napari_disentangle.simulate import simulate_tomogram
from napari_disentangle.stages import average_selection
from napari_disentangle.tasks import LANES
from napari_disentangle.training import decode, fit, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITH_MORE = """
import math, os, subprocess, sys, warnings
from napari_disentangle import tasks

def loud(tell):
    print("progress: 50%")
    print('{"id": 1, "result": "forged"}', flush=True)
    os.write(1, b"a library in C writes here\\n")
    sys.stdout.write("no end of line")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    tell("working", 0.5)
    return {"answer": 42}

def no_number(tell):
    return {"answer": math.nan}

def no_memory(tell):
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

def no_file(tell):
    open("/nowhere/at/all.mrc")

tasks.LANES["quick"].update(loud=loud, no_number=no_number, no_memory=no_memory, no_file=no_file)
tasks.serve()
"""


FOR_EVER = """
import sys, threading
from napari_disentangle import tasks

def compile():
    print("compiling", file=sys.stderr, flush=True)
    threading.Event().wait()

tasks._warm_umap = compile
tasks.serve()
"""


class Asked:
    """The process, and what has been asked of it."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.count = 0

    def ask(self, task: str, **given: Any) -> int:
        self.count += 1
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": self.count, "task": task, "with": given}) + "\n")
        self.process.stdin.flush()
        return self.count

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def answer(self, task: str, **given: Any) -> dict[str, Any]:
        """Ask and wait; what it tells on the way is checked and left out."""
        number = self.ask(task, **given)
        while "told" in (found := self.line()):
            stage, done = found["told"]
            assert stage
            assert 0 <= done <= 1
            assert found["id"] == number
        assert found.pop("id") == number
        return found


@contextmanager
def started(*command: str) -> Iterator[Asked]:
    asked = Asked(*command)
    try:
        yield asked
    finally:
        asked.process.kill()
        asked.process.communicate()


@pytest.fixture(scope="module")
def helper() -> Iterator[Asked]:
    """One process for all tests that leave it as it was."""
    with started("-m", "napari_disentangle.tasks") as asked:
        yield asked


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A trained run that may be written to."""
    return Run.open(shutil.copytree(trained.path, tmp_path / "run"))


class TestTasks:
    def test_mapping_codes(self, helper, run):
        found = helper.answer("map_codes", run=str(run.path), on="content", method="pca")
        assert found == {"result": {"embedding": str(run.path / "embeddings" / "content_pca.npz")}}
        kept = run.embedding("content", "pca")
        assert kept is not None
        assert kept.fingerprint == run.fingerprint()
        np.testing.assert_array_equal(kept.ids, run.codes().ids)

    @pytest.mark.parametrize("k", [None, 2])
    def test_grouping(self, helper, run, k):
        found = helper.answer("group", run=str(run.path), on="content", name="auto", k=k)
        names = [f"auto/{j}" for j in range(k or len(found["result"]["names"]))]
        assert found == {"result": {"names": names}}
        ids = np.concatenate([run.selection(name).ids for name in names])
        np.testing.assert_array_equal(np.sort(ids), run.codes().ids)

    def test_grouping_within_a_selection(self, helper, run):
        run.save_selections("A", [Selection("A/0", np.arange(12))])
        found = helper.answer("group", run=str(run.path), on="content", name="B", k=2, within="A/0", method="kmeans")
        ids = np.concatenate([run.selection(name).ids for name in found["result"]["names"]])
        np.testing.assert_array_equal(np.sort(ids), np.arange(12))

    def test_what_the_model_makes_of_particles(self, helper, run, tmp_path):
        out = tmp_path / "decoded.npz"
        found = helper.answer("reconstruct", run=str(run.path), ids=[17, 3, 999, 20], out=str(out))
        assert found == {"result": {"file": str(out), "fingerprint": run.fingerprint()}}
        assert [path.name for path in tmp_path.glob("*.npz")] == ["decoded.npz"]
        codes = run.codes()
        rows = [17, 3, 20]
        volumes, voxel = decode(run, codes.content[rows])
        turns, moves = codes.pose.rotations[rows], codes.pose.offsets[rows] / voxel
        placed = place_volumes(*(torch.as_tensor(a, dtype=torch.float32) for a in (volumes, turns, moves))).numpy()
        with np.load(out) as stored:
            np.testing.assert_array_equal(stored["ids"], rows)
            np.testing.assert_allclose(stored["canonical"], volumes, atol=1e-5)
            np.testing.assert_allclose(stored["volumes"], placed, atol=1e-4)
            assert float(stored["voxel_size"]) == voxel == 20
        assert np.abs(placed - volumes).max() > 0.01, "they lie as in their boxes, not as in the reference"

    def test_a_map_is_compared_with_an_average(self, helper, run, tmp_path):
        chosen = Selection("A/0", np.arange(12))
        run.save_selections("A", [chosen])
        average_selection(run, chosen, mode="fixed", rounds=0, starts=0)
        average, out = run.average_folder("A/0") / "average.mrc", tmp_path / "compared.npz"
        found = helper.answer("compare", run=str(run.path), selection="A/0", map=str(average), out=str(out))["result"]
        assert found["file"] == str(out)
        assert found["correlation"] == pytest.approx(1, abs=0.01)
        with np.load(out) as stored:
            assert stored["volume"].shape == (16, 16, 16)
            assert stored["fsc"][1:4].min() > 0.99
            assert stored["frequency"].shape == stored["fsc"].shape
        refused = helper.answer("compare", run=str(run.path), selection="A/0", map=str(out), out=str(out))
        assert "is not an MRC file" in refused["error"]

    def test_models_are_kept_no_longer_than_they_are_true(self, helper, tiny_stack, tiny, tmp_path):
        """A click decodes with the model of the click before; not after more training, nor after another one there."""
        out = tmp_path / "decoded.npz"

        def trained_again() -> np.ndarray:
            for _ in fit(run, device="cpu"):
                pass
            assert "result" in helper.answer("reconstruct", run=str(run.path), ids=[3], out=str(out))
            with np.load(out) as stored:
                np.testing.assert_allclose(stored["canonical"], decode(run, run.codes().content[[3]])[0], atol=1e-5)
                return stored["canonical"]

        short = [*tiny, "training.epochs=1"]
        run = prepare(tiny_stack, tmp_path / "run", settings=short)
        first = trained_again()
        run = prepare(tiny_stack, tmp_path / "run", settings=[*short, "training.seed=5"], overwrite=True)
        other = trained_again()
        assert np.abs(other - first).max() > 1e-3
        recipe = run.path / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("\nfine_epochs = 1\n", "\nfine_epochs = 2\n"))
        run = Run.open(run.path)
        assert np.abs(trained_again() - other).max() > 1e-3

    def test_what_was_learnt(self, helper, run):
        run.save_selections("A", [Selection("A/0", np.arange(20)), Selection("A/1", np.arange(20, 30))])
        found = helper.answer("learnt", run=str(run.path), groups="A")["result"]
        assert found["words"][0] == "2 groups in content (20, 10 particles)."
        assert isinstance(found["doubts"], list)

    def test_making_a_run(self, helper, tiny_stack, tiny, tmp_path):
        given = {"particles": str(tiny_stack), "out": str(tmp_path / "new"), "preset": "quick", "settings": list(tiny)}
        reading = {"tilt_range": [-60, 60], "voxel_size": None}
        found = helper.answer("make_run", **given, reading=reading, invert=True)
        assert found == {"result": {"run": str(tmp_path / "new")}}
        made = Run.open(tmp_path / "new")
        assert (made.recipe.input.tilt_range, made.recipe.input.invert) == ((-60, 60), True)
        assert made.embedding("invariants", "pca") is not None
        assert "exists already" in helper.answer("make_run", **given, reading=reading, invert=True)["error"]

    def test_cutting_boxes_and_estimating_on_them(self, helper, tiny, tmp_path):
        made = simulate_tomogram(MAPS, tmp_path / "tomogram", count=30, size=(48, 96, 96), snr=1.0, spacing=12)
        given = {
            "particles": str(made.optimisation_set),
            "reading": {"tilt_range": [-50, 50]},
            "out": str(tmp_path / "boxes"),
        }
        found = helper.answer("cut_boxes", **given, box=24, bin=1.5, invert=True)["result"]
        assert found["boxes"] == str(tmp_path / "boxes")
        assert found["count"] + found["left_out"] == made.count
        assert found["count"] >= 8, "more than a training needs"
        assert found["left_out"] > 0, "some boxes reach over the edge"
        particles = read_particles(tmp_path / "boxes")
        assert (len(particles), particles.voxel_size, particles.tilt_ranges()[0].tolist()) == (
            found["count"],
            15,
            [-50, 50],
        )
        settings = [*tiny, "training.epochs=500"]
        told = helper.answer(
            "estimate",
            particles=str(tmp_path / "boxes"),
            preset="quick",
            settings=settings,
            reading={"voxel_size": None},
        )["result"]
        assert told["particles"] == found["count"]
        assert told["seconds"] > 6
        assert told["memory_gb"] > 0.1
        assert told["words"].startswith("on ")


class TestErrors:
    def test_a_mistake_of_the_user_comes_as_a_sentence(self, helper, run, tmp_path):
        out = str(tmp_path / "decoded.npz")
        assert helper.answer("reconstruct", run=str(run.path), ids=[999], out=out) == {
            "error": f"{run.path}: none of these particles was trained on, so the model has nothing to say of them."
        }
        assert "none of these" in helper.answer("reconstruct", run=str(run.path), ids=[], out=out)["error"]
        absent = tmp_path / "absent"
        assert str(absent) in helper.answer("learnt", run=str(absent), groups="A")["error"]

    def test_a_mistake_of_ours_comes_with_its_traceback(self, helper, run):
        found = helper.answer("learnt", run=str(run.path), nonsense=3)
        assert set(found) == {"bug"}
        assert "Traceback" in found["bug"]
        assert "nonsense" in found["bug"].splitlines()[-1]
        assert "result" in helper.answer("learnt", run=str(run.path), groups="A"), "and the next is answered"


class TestProcess:
    def test_whatever_is_printed_is_no_answer(self):
        with started("-c", WITH_MORE) as asked:
            number = asked.ask("loud")
            assert asked.line() == {"id": number, "told": ["working", 0.5]}
            assert asked.line() == {"id": number, "result": {"answer": 42}}
            bug = asked.answer("no_number")["bug"]
            assert "JSON" in bug
            assert asked.answer("no_memory")["error"].startswith("Memory ran out; close other programs")
            assert asked.answer("no_file") == {"error": "/nowhere/at/all.mrc: No such file or directory"}
            out, err = asked.process.communicate()
            assert out == ""
            for printed in ("progress: 50%", "forged", "a library in C", "no end of line", "from a child"):
                assert printed in err

    def test_it_ends_when_nobody_can_ask_any_more(self, run):
        """Also while a task runs; and a click is answered in the meantime."""
        given = {"run": str(run.path), "selection": "A/0", "ids": list(range(30))}
        with started("-m", "napari_disentangle.tasks") as asked:
            long = asked.ask("average", **given, mode="free", rounds=9, starts=9)
            assert asked.line()["id"] == long
            quick = asked.ask("learnt", run=str(run.path), groups="A")
            answered = []
            while not answered or answered[-1]["id"] != quick or "told" in answered[-1]:
                answered.append(asked.line())
            assert "result" in answered[-1]
            assert not any(one["id"] == long and "told" not in one for one in answered), (
                "the long one was still at work"
            )
            left, _ = asked.process.communicate(timeout=20)  # closes its input
            assert asked.process.returncode == 0
            assert not any("told" not in json.loads(line) for line in left.splitlines())
            assert not (run.average_folder("A/0") / "average.mrc").exists()

    def test_warming_tells_where_it_runs_and_does_not_wait_for_umap(self):
        """UMAP is compiled aside, which here takes for ever; nor does the end wait for it."""
        with started("-c", FOR_EVER) as asked:
            told = asked.answer("warm")["result"]
            assert told["pid"] == asked.process.pid
            assert told["device"] in ("cpu", "cuda", "mps")
            assert told["words"].startswith("on ")
            assert asked.process.stderr is not None
            assert asked.process.stderr.readline() == "compiling\n"
            asked.process.communicate(timeout=20)  # closes its input
            assert asked.process.returncode == 0


def test_every_task_is_in_one_lane_and_says_what_it_does():
    names = [name for tasks in LANES.values() for name in tasks]
    assert len(set(names)) == len(names) == 10
    assert all(task.__doc__ for tasks in LANES.values() for task in tasks.values())
