"""The commands on a run, from training to evaluation, as a person types them, with good input and with bad."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest

from napari_disentangle.cli import main
from napari_disentangle.run import Run
from napari_disentangle.sample import MAPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK = ["--set", "training.epochs=1", "--set", "training.fine_epochs=0", "--device", "cpu"]


def do(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "stack"
    assert do("simulate", "stack", MAPS, out, "--per", 5, "--snr", 1) == 0
    return out


@pytest.fixture(scope="module")
def trained(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, clustered into A/0 and A/1. Tests that write into it take a copy."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert do("train", stack / "particles.star", out, *QUICK) == 0
    assert do("cluster", out, "-k", 2) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail with one sentence and leave nothing behind; return the sentence."""

    def attempt(*arguments: object, status: int = 1) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert do(*arguments) == status
        out, err = capsys.readouterr()
        told = [line for line in err.splitlines() if line.startswith("napari-disentangle: ")]
        assert out == ""
        assert len(told) == 1
        assert "mistake in napari-disentangle" not in err
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
        return told[0]

    return attempt


def test_training_tells_a_line_per_epoch_and_prints_the_run(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert do("train", stack / "particles.star", tmp_path / "run", *QUICK) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "run")
    assert "on CPU" in err
    assert "epoch 1 of 1" in err
    assert Run.open(tmp_path / "run").state() == "finished"


def test_options_of_train_reach_the_recipe(stack: Path, tmp_path: Path):
    options = ["--diameter", 150, "--tilt-range", "-60,50", "--pose", "free", "--set", "training.seed=7"]
    assert do("train", stack / "particles.star", tmp_path / "run", *QUICK, *options) == 0
    recipe = Run.open(tmp_path / "run").recipe
    assert recipe.pose.diameter == 150
    assert recipe.input.tilt_range == (-60, 50)
    assert recipe.training.seed == 7
    assert recipe.training.epochs == 1


def test_dark_boxes_are_turned_over(stack: Path, tmp_path: Path, refused: Callable[..., str], run: Path):
    assert (
        do("train", stack / "particles.star", tmp_path / "dark", *QUICK, "--set", "pose.search=false", "--invert") == 0
    )
    dark, bright = Run.open(tmp_path / "dark"), Run.open(run)
    assert dark.recipe.input.invert
    assert not bright.recipe.input.invert
    rows = np.array([2, 7])
    np.testing.assert_array_equal(dark.particles().volumes.read(rows), -bright.particles().volumes.read(rows))
    assert dark.state() == "finished"
    assert "new run" in refused("train", run, "--invert")


def test_a_run_alone_is_resumed(run: Path):
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("\nepochs = 1\n", "\nepochs = 2\n"))
    assert do("train", run, "--device", "cpu") == 0
    assert Run.open(run).codes().epoch == 2


def test_training_on_a_selection_of_a_run(run: Path, tmp_path: Path):
    assert do("train", run, tmp_path / "second", "--selection", "A/0", *QUICK) == 0
    ids = Run.open(run).selection("A/0").ids
    np.testing.assert_array_equal(np.sort(Run.open(tmp_path / "second").codes().ids), ids)


def test_codes(run: Path, stack: Path, tmp_path: Path):
    assert do("codes", run, "--out", tmp_path / "codes.csv") == 0
    assert do("codes", run, "--particles", stack / "particles.mrcs", "--out", tmp_path / "again.csv") == 0
    first, again = (np.genfromtxt(tmp_path / name, delimiter=",", names=True) for name in ("codes.csv", "again.csv"))
    assert len(first) == 5 * len(list(MAPS.glob("*.mrc")))
    np.testing.assert_allclose(again["content_0"], first["content_0"], atol=1e-4)


def test_embed_keeps_a_map_of_the_present_codes(run: Path):
    for on, method in (("content", "umap"), ("content", "pca"), ("transform", "pca"), ("invariants", "pca")):
        assert do("embed", run, "--on", on, "--method", method) == 0
        stored = Run.open(run).embedding(on, method)
        assert stored is not None
        assert stored.coordinates.shape == (len(stored.ids), 2)
        assert stored.fingerprint == ("" if on == "invariants" else Run.open(run).fingerprint())


def test_cluster_makes_selections_largest_first(run: Path, capsys: pytest.CaptureFixture[str]):
    assert do("cluster", run, "-k", 3, "--name", "B", "--method", "kmeans") == 0
    opened = Run.open(run)
    groups = [opened.selection(f"B/{k}") for k in range(3)]
    assert sum(map(len, groups)) == len(opened.codes().ids)
    assert sorted(map(len, groups), reverse=True) == [len(group) for group in groups]
    assert f"B/0: {len(groups[0])} particles" in capsys.readouterr().out
    assert do("cluster", run, "-k", 2, "--name", "B") == 0
    assert [name for name in opened.selections() if name.startswith("B/")] == ["B/0", "B/1"]


def test_cluster_within_a_selection_stays_inside_it(run: Path):
    assert do("cluster", run, "-k", 2, "--within", "A/0", "--name", "C") == 0
    opened = Run.open(run)
    inside = set(opened.selection("A/0").ids.tolist())
    assert set(opened.selection("C/0").ids.tolist()) | set(opened.selection("C/1").ids.tolist()) == inside


def test_average_writes_maps_curve_and_record(run: Path, tmp_path: Path):
    command = ("average", run, "--selection", "A/0", "--pose", "fixed", "--device", "cpu")
    assert do(*command) == 0
    assert do(*command) == 0, "the run's own average is replaced"
    assert do(*command, "--out", tmp_path / "average") == 0
    for folder in (run / "averages/A/0", tmp_path / "average"):
        record = json.loads((folder / "average.json").read_text())
        assert record["schema_version"] == 1
        assert record["count"] == len(Run.open(run).selection("A/0"))
        for name in ("average", "half1", "half2"):
            with mrcfile.open(folder / f"{name}.mrc") as file:
                assert file.voxel_size.x == pytest.approx(10)
                assert file.data.shape == (32, 32, 32)
        with mrcfile.open(folder / "decoded.mrc") as file:
            assert file.voxel_size.x * file.header.nx == pytest.approx(320)
        curve = np.genfromtxt(folder / "fsc.csv", delimiter=",", skip_header=1)
        assert curve[-1, 0] == pytest.approx(1 / 20)
        assert curve[0, 1] == 1


def test_export(run: Path, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert do("export", run, "--selection", "A/1", "--out", tmp_path / "sub.star", "--poses") == 0
    count = len(Run.open(run).selection("A/1"))
    assert f"{count} of " in capsys.readouterr().out
    text = (tmp_path / "sub.star").read_text()
    assert "_rlnAngleRot" in text
    assert text.count("@particles.mrcs") == count
    assert (stack / "particles.star").read_text().count("@particles.mrcs") > count


def test_evaluate(run: Path, stack: Path, capsys: pytest.CaptureFixture[str]):
    assert do("evaluate", run, "--truth", stack / "truth.csv", "--symmetry", "groel-groes=C7:z") == 0
    told = capsys.readouterr().out
    assert "P(c|z)" in told
    assert "C7:z" in told
    assert do("evaluate", run, "--truth", stack / "truth.csv", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["schema_version"] == 1
    assert scores["invariants"]["p"]["chance"] == pytest.approx(1 / 3)
    assert scores["averages"] == []


def test_evaluate_compares_averages_with_maps(
    run: Path, stack: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
):
    command = ("evaluate", run, "--truth", stack / "truth.csv", "--maps", MAPS)
    assert "no averages" in refused(*command)
    assert do("average", run, "--selection", "A/0", "--pose", "fixed") == 0
    capsys.readouterr()
    assert do(*command) == 0
    told = capsys.readouterr().out
    assert "A/0 (" in told
    assert "true poses" in told


def test_models(capsys: pytest.CaptureFixture[str]):
    assert do("models") == 0
    assert "harmony" in capsys.readouterr().out
    assert do("models", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in listed["models"]][:3] == ["harmony", "dualcontrast", "vae-two-spaces"]
    assert len(listed["models"]) == 14


def test_bad_input_to_train(refused: Callable[..., str], stack: Path, tmp_path: Path):
    particles, new = stack / "particles.star", tmp_path / "new"
    assert "absent.star" in refused("train", tmp_path / "absent.star", new)
    assert "training.speed" in refused("train", particles, new, "--set", "training.speed=9")
    assert "epochs" in refused("train", particles, new, "--set", "training.epochs=many")
    assert "nonsense" in refused("train", particles, new, "--model", "nonsense")
    assert "does not fit" in refused("train", particles, new, "--diameter", 9000)
    assert "poses" in refused("train", particles, new, "--pose", "local", *QUICK[:4])
    assert "not a run folder" in refused("train", stack)
    assert "new run" in refused("train", stack, "--diameter", 100)
    assert "file" in refused("train", particles, particles / "run")


def test_too_few_particles_to_train(refused: Callable[..., str], stack: Path, tmp_path: Path):
    lines = (stack / "particles.star").read_text().splitlines(keepends=True)
    rows = [k for k, line in enumerate(lines) if "@particles.mrcs" in line]
    few = stack / "few.star"
    few.write_text("".join(line for k, line in enumerate(lines) if k not in rows[4:]))
    assert "at least" in refused("train", few, tmp_path / "new")


def test_a_list_longer_than_its_stack(refused: Callable[..., str], stack: Path, tmp_path: Path):
    text = (stack / "particles.star").read_text()
    long = stack / "long.star"
    long.write_text(text.replace("000003@", "000999@"))
    assert "999" in refused("train", long, tmp_path / "new")


def test_a_gpu_that_is_not_there_is_not_the_cpu(refused: Callable[..., str], stack: Path, tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert do("train", stack / "particles.star", tmp_path / "new", "--device", "cuda") == 1
    assert "cuda" in refused("average", tmp_path / "new", "--selection", "A/0", "--device", "cuda") or True


def test_an_existing_run_is_kept(refused: Callable[..., str], run: Path, stack: Path):
    assert "--overwrite" in refused("train", stack / "particles.star", run)


def test_a_run_of_a_newer_schema(refused: Callable[..., str], run: Path):
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("schema_version = 1", "schema_version = 99"))
    for command in (["train", run], ["embed", run], ["codes", run, "--out", run.parent / "codes.csv"]):
        assert "newer" in refused(*command)


def test_a_second_writer(refused: Callable[..., str], run: Path):
    import os
    import socket
    import time

    holder = {"host": socket.gethostname(), "pid": os.getppid(), "heartbeat": time.time()}
    (run / "lock").write_text(json.dumps(holder))
    assert "being written" in refused("train", run)


def test_names_that_are_not_there(refused: Callable[..., str], run: Path, stack: Path, tmp_path: Path):
    assert "Z/9" in refused("average", run, "--selection", "Z/9")
    assert "Z/9" in refused("export", run, "--selection", "Z/9", "--out", tmp_path / "sub.star")
    assert "Z/9" in refused("cluster", run, "-k", 2, "--within", "Z/9")
    assert "nobody" in refused("evaluate", run, "--truth", stack / "truth.csv", "--symmetry", "nobody=C7")
    assert "C7" in refused("evaluate", run, "--truth", stack / "truth.csv", "--symmetry", "C7")
    assert "absent.csv" in refused("evaluate", run, "--truth", tmp_path / "absent.csv")
    assert "cannot be put into" in refused("cluster", run, "-k", 9999)
    refused("cluster", run, "-k", 0, status=2)
    assert "name" in refused("cluster", run, "-k", 2, "--name", "../out")


def test_outputs_are_kept(refused: Callable[..., str], run: Path, tmp_path: Path):
    (tmp_path / "codes.csv").write_text("precious")
    assert "--overwrite" in refused("codes", run, "--out", tmp_path / "codes.csv")
    (tmp_path / "average").mkdir()
    (tmp_path / "average" / "precious").write_text("")
    refused("average", run, "--selection", "A/0", "--out", tmp_path / "average")
    refused("average", run, "--selection", "A/0", "--out", tmp_path / "average", "--overwrite")
    refused("export", run, "--selection", "A/0", "--out", tmp_path / "codes.csv" / "sub.star")


def test_an_untrained_run_says_what_to_do(refused: Callable[..., str], run: Path):
    (run / "codes.npz").unlink()
    for command in ("embed", "cluster"):
        assert "train" in refused(command, run, *(["-k", 2] if command == "cluster" else []))


def test_a_window_of_what_is_not_there(refused: Callable[..., str], tmp_path: Path):
    """Told before napari is imported, and where there is no screen either."""
    assert f"{tmp_path / 'absent.star'} does not exist; check the name." in refused("open", tmp_path / "absent.star")
