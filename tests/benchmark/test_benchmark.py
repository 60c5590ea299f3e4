"""A tiny benchmark: rows run, are not run again, survive interruptions and are told beside the papers' figures."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread

from napari_disentangle.benchmark import PUBLISHED, TABLES, Row, planned, read_results, write_tables
from napari_disentangle.benchmark.datasets import SOURCES, dataset
from napari_disentangle.benchmark.pictures import PIXELS, draw_pictures
from napari_disentangle.benchmark.render import grouped
from napari_disentangle.benchmark.results import FILE, append_result, commit
from napari_disentangle.benchmark.running import run_job
from napari_disentangle.benchmark.sweep import swept
from napari_disentangle.benchmark.tables import THROUGHPUT
from napari_disentangle.cli import main
from napari_disentangle.errors import InputError
from napari_disentangle.io import read_particles
from napari_disentangle.metrics import Score, read_truth
from napari_disentangle.metrics.evaluation import CodeScores, PoseScores
from napari_disentangle.models import MODELS
from napari_disentangle.recipe import Recipe
from napari_disentangle.run import Run
from napari_disentangle.sample import MAPS

if TYPE_CHECKING:
    from pathlib import Path

    from napari_disentangle.benchmark import Result

SMALL = ("training.batch_size=20", "training.fine_epochs=0", "model.content_dims=2")
ROWS = (
    Row("pca", "pca", SMALL),
    Row("vae-two-spaces", "vae-two-spaces", (*SMALL, "training.epochs=2"), seeds=(0, 1)),
    Row("harmony", "harmony", (*SMALL, "training.epochs=1")),
)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as the benchmark's data, with little in it."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20).astype(np.uint8)
    y, x = np.mgrid[:28, :28]
    digits = np.array([255 * np.exp(-(((x - 8 - 6 * k) ** 2) + (y - 14) ** 2) / (10 + 8 * k)) for k in labels])
    digits += rng.uniform(0, 20, digits.shape)
    objects = rng.integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    kinds = np.repeat(np.arange(2), 10).astype(np.uint8)
    (folder / "mnist").mkdir()
    np.savez(folder / "mnist" / "mnist.npz", x_train=digits.clip(0, 255).astype(np.uint8), y_train=labels)
    (folder / "linemod5").mkdir()
    np.savez(
        folder / "linemod5" / "linemod5_synth.npz", objects=np.array(["ape", "cat"]), coarse_img=objects[:8],
        coarse_label=kinds[:8], fine_img=objects[8:], fine_label=kinds[8:],
    )  # fmt: skip
    for name in ("trio", "five"):
        shutil.copytree(MAPS, folder / "maps" / name)
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "mnist", replace(TABLES["mnist"], rows=ROWS))


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the small table."""
    out = tmp_path_factory.mktemp("out")
    for job in planned([replace(TABLES["mnist"], rows=ROWS)], out, sizes={"mnist": 60}):
        run_job(job, data, out, device="cpu")
    return out


def lines(out: Path) -> list[str]:
    return (out / FILE).read_text().splitlines()


def test_rows_leave_results(done: Path) -> None:
    results = {(r.row, r.seed): r for r in read_results(done)}
    assert list(results) == [("pca", 0), ("vae-two-spaces", 0), ("vae-two-spaces", 1), ("harmony", 0)]
    found = results["vae-two-spaces", 0]
    assert (found.particles, found.epochs, found.ended) == (60, 2, "finished")
    assert found.scores is not None
    assert found.scores.invariants is not None
    assert found.scores.model.d_cz.value is not None
    assert set(found.informativeness) == {"content", "transformation"}
    assert found.machine.cpu
    assert found.machine.threads >= 1
    assert found.seconds > 0
    assert "training.epochs=2" in found.settings
    assert list(found.particles_per_second) == ["28"]
    assert found.pictures == ("mnist-vae-two-spaces-0-60-transfer.png", "mnist-vae-two-spaces-0-60-traversal.png")
    assert results["pca", 0].pictures == ("mnist-pca-0-60-traversal.png",)
    for result in results.values():
        for name in result.pictures:
            assert (done / "pictures" / name).read_bytes().startswith(b"\x89PNG")
    for line in lines(done):
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_what_is_there_is_not_run_again(done: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = lines(done)
    command = ["benchmark", "run", str(data), str(done), "--table", "mnist", "--size", "mnist=60", "--device", "cpu"]
    assert main(command) == 0
    assert lines(done) == before
    assert "already" in capsys.readouterr().err
    table = TABLES["mnist"]
    assert [job.name for job in planned([table], done, sizes={"mnist": 60}, seeds=[0, 5], rows=["pca"])] == [
        "mnist/pca-5-60"
    ]
    assert len(planned([table], done)) == 4  # data of another size
    assert len(planned([table], done, sizes={"mnist": 60}, again=True)) == 4


def test_a_row_whose_settings_have_changed_is_run_again_and_has_no_mean_with_what_it_was(done, tmp_path) -> None:
    for result in read_results(done):
        append_result(tmp_path, result)
    changed = replace(ROWS[1], settings=(*ROWS[1].settings, "model.content_dims=5"))
    assert changed.name == "vae-two-spaces"
    table = replace(TABLES["mnist"], rows=(ROWS[0], changed, *ROWS[2:]))
    jobs = planned([table], tmp_path, sizes={"mnist": 60})
    assert [job.name for job in jobs] == ["mnist/vae-two-spaces-0-60", "mnist/vae-two-spaces-1-60"]
    old = next(one for one in read_results(done) if one.key == jobs[0].key)
    append_result(
        tmp_path, old.model_copy(update={"settings": (*old.settings, "model.content_dims=5"), "date": "2999-01-01"})
    )
    page, _ = write_tables(tmp_path, tmp_path / "docs")
    (line,) = (line for line in page.read_text().splitlines() if line.startswith("| vae-two-spaces"))
    assert line.startswith("| vae-two-spaces | 0 | 60 |"), "the other seed was found with other settings"
    (told,) = (line for line in page.read_text().splitlines() if line.startswith("- vae-two-spaces: `"))
    assert "model.content_dims=5" in told, "nor are its settings told"


def test_sizes_of_a_row_have_runs_and_pictures_of_their_own(done: Path, tmp_path: Path) -> None:
    table = TABLES["mnist"]
    chosen = {"rows": ["pca"], "seeds": [0], "again": True}
    usual, small = (planned([table], done, sizes=sizes, **chosen)[0] for sizes in ({}, {"mnist": 60}))
    assert (usual.name, small.name) == ("mnist/pca-0", "mnist/pca-0-60")
    result = next(one for one in read_results(done) if one.key == small.key)
    append_result(tmp_path, result)
    append_result(
        tmp_path, result.model_copy(update={"size": usual.size, "particles": 10000, "pictures": ("a-traversal.png",)})
    )
    page, _ = write_tables(tmp_path, tmp_path / "docs")
    assert "![pca, 60 particles: traversal](pictures/mnist-pca-0-60-traversal.png)" in page.read_text()
    assert "![pca, 10000 particles: traversal](pictures/a-traversal.png)" in page.read_text()


def test_a_page_tells_the_command_that_makes_each_of_its_rows_again(done: Path, tmp_path: Path) -> None:
    first, *others = read_results(done)
    limit = "stopped by the limit of 0.5 minutes after 3 epochs"
    for seed in (0, 2):
        append_result(tmp_path, first.model_copy(update={"row": "harmony", "seed": seed, "size": 10000}))
    append_result(tmp_path, others[0].model_copy(update={"row": "vae", "seed": 1, "size": 60, "ended": limit}))
    page, _ = write_tables(tmp_path, tmp_path / "docs")
    start = "    napari-disentangle benchmark run DATA OUT --table mnist --row "
    commands = [line.removeprefix(start) for line in page.read_text().splitlines() if line.startswith(start)]
    assert commands == ["harmony --seeds 0 2", "vae --seeds 1 --size mnist=60 --minutes 0.5"]


def test_a_page_tells_of_each_seed_where_it_ran_and_what_it_lacks(done: Path, tmp_path: Path) -> None:
    """A mean of two seeds of three is called so, and why the third has none is told."""
    first = next(one for one in read_results(done) if one.row == "vae-two-spaces")
    assert first.scores is not None
    lacking = first.scores.model.model_copy(update={"d_cc": Score(reason="there was none")})
    gpu = first.machine.model_copy(update={"device": "on NVIDIA H200"})
    for seed, changes in enumerate(
        ({"scores": first.scores.model_copy(update={"model": lacking})}, {}, {"machine": gpu})
    ):
        append_result(
            tmp_path, first.model_copy(update={"row": "harmony", "model": "harmony", "seed": seed, **changes})
        )
    text = write_tables(tmp_path, tmp_path / "docs")[0].read_text()
    assert text.count(f"{first.scores.model.d_cc.value:+.3f} ± 0.000 (2 of 3)") == 1
    assert "- harmony: D(c|c) of seed 0: there was none." in text
    start = "    napari-disentangle benchmark run DATA OUT --table mnist --row harmony --seeds "
    commands = [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]
    assert commands == ["0 1 --size mnist=60", "2 --size mnist=60 --device cuda"]


def test_a_page_tells_errors_of_poses_but_not_of_copies_that_nobody_tells_apart(done: Path, tmp_path: Path) -> None:
    first = read_results(done)[0]
    assert first.scores is not None
    poses = [
        PoseScores(
            identity=name,
            symmetry="C7:z",
            particles=30,
            median=Score(value=median, chance=86.0),
            close=Score(value=0.75),
            shift=Score(reason="no shifts"),
        )
        for name, median in (("groel", 8.0), ("proteasome-20s", 165.0))
    ]
    for seed, more in ((0, 0.0), (1, 4.0)):
        scored = [
            one.model_copy(update={"median": Score(value=(one.median.value or 0) + more, chance=86.0)}) for one in poses
        ]
        update = {"seed": seed, "scores": first.scores.model_copy(update={"pose": tuple(scored)})}
        append_result(tmp_path, first.model_copy(update=update))
    text = write_tables(tmp_path, tmp_path / "docs")[0].read_text()
    assert "| pca | 60 | groel | C7:z | 10 | 86 | 0.75 | - |" in text
    assert "- proteasome-20s: left out, D7" in text
    assert "165" not in text


def test_the_commit_is_that_of_the_code_that_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    commit.cache_clear()
    found = commit()
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("asked again"))
    assert commit() == found


def test_the_command_runs_a_row(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "benchmark",
        "run",
        str(data),
        str(tmp_path / "out"),
        "--table",
        "mnist",
        "--row",
        "vae-two-spaces",
        "pca",
    ]
    assert main([*command, "--seeds", "3", "--size", "mnist=30", "--device", "cpu"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in out] == ["mnist/pca-3-30", "mnist/vae-two-spaces-3-30"]
    assert all("finished" in line and "P(c|z)" in line for line in out)


def test_an_interrupted_row_is_run_anew(done: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    before = lines(out)
    (job,) = planned([TABLES["mnist"]], out, rows=["harmony"], seeds=[7], sizes={"mnist": 60})

    def interrupted(_run: object, training) -> None:
        for progress in training:
            if progress.step == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, data, out, device="cpu", watch=interrupted)
    assert lines(out) == before
    (out / FILE).write_text("\n".join(before) + '\n{"schema_version": 1, "table": "mni')  # and a crash while writing
    assert len(read_results(out)) == len(before)
    run_job(job, data, out, device="cpu")
    assert len(read_results(out)) == len(before) + 1
    assert not planned([TABLES["mnist"]], out, rows=["harmony"], seeds=[7], sizes={"mnist": 60})


def test_the_limit_of_time_keeps_the_model(data: Path, tmp_path: Path) -> None:
    row = Row("vae", "vae", (*SMALL, "training.epochs=1000"), minutes=0.01)
    (job,) = planned([replace(TABLES["mnist"], rows=(row,))], tmp_path, sizes={"mnist": 60})
    result = run_job(job, data, tmp_path, device="cpu")
    assert result.ended == f"stopped by the limit of 0.01 minutes after {result.epochs} epochs"
    assert result.epochs < 1000
    assert result.scores is not None
    assert result.pictures


def test_a_training_without_memory_is_none(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may end well on another machine, so that it is run again."""

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules["napari_disentangle.training.fit"], "read_inputs", full)
    (job,) = planned([replace(TABLES["mnist"], rows=(ROWS[1],))], tmp_path, seeds=[0], sizes={"mnist": 60})
    with pytest.raises(InputError, match="memory ran out"):
        run_job(job, data, tmp_path, device="cpu")
    assert not read_results(tmp_path)


def test_a_training_that_fails_is_a_result(data: Path, tmp_path: Path) -> None:
    row = Row("vae", "vae", (*SMALL, "training.epochs=30", "training.learning_rate=1e12"))
    (job,) = planned([replace(TABLES["mnist"], rows=(row,))], tmp_path, sizes={"mnist": 60})
    result = run_job(job, data, tmp_path, device="cpu")
    assert "diverged" in result.ended
    assert result.scores is None
    assert not planned([replace(TABLES["mnist"], rows=(row,))], tmp_path, sizes={"mnist": 60})
    path, _ = write_tables(tmp_path, tmp_path / "docs")
    assert "diverged" in path.read_text()


def test_tables_show_the_papers_figures_chance_and_the_invariants(done: Path, tmp_path: Path, capsys) -> None:
    assert main(["benchmark", "tables", str(done), "--docs", str(tmp_path / "docs")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "docs" / name) for name in ("mnist.md", "README.md")]
    text = (tmp_path / "docs" / "mnist.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    head = [cell.strip() for cell in table[0].replace(r"\|", "¦").strip("|").split("|")]
    cells = {
        row[0]: dict(zip(head, row, strict=True))
        for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in table[2:])
    }
    assert list(cells) == ["*chance*", "*invariants, nothing trained*", "pca", "vae-two-spaces", "harmony"]
    assert cells["*chance*"]["D(c¦z)"] == "+0.333"
    assert cells["harmony"]["D(c¦c)"].endswith("[+0.82]")
    assert "±" in cells["vae-two-spaces"]["D(c¦c)"]
    assert cells["vae-two-spaces"]["SAP(c)"][0] in "+-"
    assert cells["pca"]["D(c¦z)"] == cells["pca"]["I(transformation)"] == "-"
    assert "- pca: P(c|t), SAP spaces, D(c|z), SAP(c), I(transformation): it has one code." in text.splitlines()
    assert "](pictures/mnist-harmony-0-60-transfer.png)" in text
    assert (tmp_path / "docs" / "pictures" / "mnist-harmony-0-60-transfer.png").is_file()


def test_pages_are_written_anew_from_the_results_beside_them(done: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    page, _ = write_tables(done, docs)
    text = page.read_text()
    page.unlink()
    assert write_tables(docs, docs) == [page, docs / "README.md"]
    assert page.read_text() == text
    kept = read_results(docs)
    assert [one.key for one in kept] == [one.key for one in read_results(done)]
    assert str(tmp_path.parent) not in (docs / "results.jsonl").read_text(), "no path of this machine"
    assert all(one.scores.truth.startswith("data/mnist-") for one in kept if one.scores is not None)


def test_only_the_pictures_that_pages_show_go_beside_them(done: Path, tmp_path: Path) -> None:
    write_tables(done, tmp_path)
    shown = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert "mnist-vae-two-spaces-0-60-traversal.png" in shown
    assert (done / "pictures" / "mnist-vae-two-spaces-1-60-traversal.png").is_file()
    assert shown == set(re.findall(r"\(pictures/([^)]+)\)", (tmp_path / "mnist.md").read_text()))


def test_the_papers_models_stand_in_one_table(done: Path, tmp_path: Path) -> None:
    result = next(one for one in read_results(done) if one.row == "harmony")
    other = result.model_copy(update={"table": "five-0.1"})
    failed = result.model_copy(update={"table": "linemod", "scores": None, "informativeness": {}, "ended": "diverged"})
    for one in (*read_results(done), other, failed):
        append_result(tmp_path, one)
    *_, page = write_tables(tmp_path, tmp_path / "docs")
    rows = [[cell.strip() for cell in line.split(" | ")] for line in page.read_text().splitlines() if "](" in line]
    told = {(row[0].strip("| "), row[1]): row for row in rows if len(row) > 2}
    assert list(told) == [("[mnist](mnist.md)", "harmony"), ("[five-0.1](five-0.1.md)", "harmony")]
    p, d_cc = (getattr(result.scores.model, key).value for key in ("p", "d_cc"))
    assert told["[mnist](mnist.md)", "harmony"][4] == f"{p:+.3f}"
    assert told["[mnist](mnist.md)", "harmony"][6] == f"{d_cc:+.3f} [+0.82]"
    assert told["[five-0.1](five-0.1.md)", "harmony"][4] == f"{p:+.3f} [+0.861]"


def test_a_traversal_has_a_line_for_all_that_moves(done: Path, trained: Run, tmp_path: Path) -> None:
    """Content and transformation codes; of poses, turns about three axes and shifts along them."""
    codes = Run.open(done / "runs" / "mnist" / "harmony-0-60").codes()
    height = len(imread(done / "pictures" / "mnist-harmony-0-60-traversal.png"))
    assert height // PIXELS == 1 + codes.content.shape[1] + codes.transform.shape[1]
    _, name = draw_pictures(trained, None, tmp_path, "posed")
    assert len(imread(tmp_path / name)) // PIXELS == 1 + trained.codes().content.shape[1] + 6


def test_the_tables_at_several_snr_have_one_chart(done: Path, tmp_path: Path) -> None:
    result = next(one for one in read_results(done) if one.row == "harmony")
    score = result.scores.model.p.value
    for table, seed, row in (("five-100", 0, "harmony"), ("five-100", 1, "harmony"), ("five-0.1", 0, "harmony-no-kl")):
        append_result(tmp_path, result.model_copy(update={"table": table, "seed": seed, "row": row}))
    append_result(tmp_path, result.model_copy(update={"table": "five-100", "size": 7}))
    for table in ("five-wedge", "of an earlier version"):
        append_result(tmp_path, result.model_copy(update={"table": table}))
    found = swept(grouped(read_results(tmp_path)))
    assert found == {"harmony": {100.0: [score, score]}}, "no ablation, no other table, no size with fewer seeds"
    pages = {path.stem: path.read_text() for path in write_tables(tmp_path, tmp_path / "docs")}
    assert (tmp_path / "docs" / "pictures" / "five-snr.png").is_file()
    assert {name for name, text in pages.items() if "(pictures/five-snr.png)" in text} == {
        "five-100",
        "five-0.1",
        "README",
    }


def test_stand_ins_are_called_so_and_rows_without_truth_are_shown(done: Path, tmp_path: Path) -> None:
    result = read_results(done)[-1]
    for table in ("trio", "spa", THROUGHPUT):
        changes: dict[str, object] = {"table": table}
        if table == "spa":
            changes["scores"] = None
        if table == THROUGHPUT:
            changes |= {"row": "harmony-32", "particles_per_second": {"32": (60.0, 64.5, 70.0)}}
        append_result(tmp_path, result.model_copy(update=changes))
    trio, spa, throughput = (
        path.read_text() for path in sorted(write_tables(tmp_path, tmp_path / "docs")[:-1], key=_order)
    )
    assert "stand-in" in trio
    assert "D(z" in trio
    assert "stand-in" in spa
    assert "D(c" not in spa.split("Every D")[1]
    assert "| harmony-32 | 32 | 20 | 64.5 | 60.0 | 70.0 | 21.5 | 3.0 |" in throughput


def _order(path: Path) -> int:
    return ["trio", "spa", THROUGHPUT].index(path.stem)


def test_a_newer_result_replaces_an_older(done: Path, tmp_path: Path) -> None:
    first = read_results(done)[0]
    for seconds in (1.0, 2.0):
        append_result(tmp_path, first.model_copy(update={"seconds": seconds}))
    assert [result.seconds for result in read_results(tmp_path)] == [2.0]


def test_every_table_can_be_run() -> None:
    for table in TABLES.values():
        assert table.rows
        assert len({row.name for row in table.rows}) == len(table.rows)
        for row in table.rows:
            recipe = Recipe.chosen("standard", row.settings_for(1000, 3))
            assert (recipe.model.name, recipe.training.seed) == (row.model, 3)
            assert not table.source or SOURCES[table.source].dims in MODELS[row.model].dimensions
    for name, rows in PUBLISHED.items():
        if name != "mnist":  # which these tests replace
            assert set(rows) <= {row.name for row in TABLES[name].rows}, name
        known = {*CodeScores.model_fields, "particles_per_second"}
        assert all(set(scores) <= known for scores in rows.values())
    trio = {row.model for row in TABLES["trio"].rows}
    assert trio == {name for name, info in MODELS.items() if 3 in info.dimensions}
    harmony = next(row for row in TABLES["trio"].rows if row.name == "harmony")
    assert harmony.seeds == (0, 1, 2)
    assert {row.seeds for row in TABLES["augmentation"].rows} == {(0, 1, 2)}


SIZES = {"mnist": 30, "mnist-affine-one": 4, "mnist-affine": 30, "linemod": 20, "rgb-contrast": 20, "projections": 3}


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "spa"])
def test_data_sets_are_made_once_and_the_same_again(name: str, data: Path, tmp_path: Path) -> None:
    size = SIZES.get(name, 2)
    made = dataset(name, data, tmp_path / "a", size=size)
    particles = read_particles(made.particles, **made.reading)
    assert made.truth is not None
    truth = read_truth(made.truth)
    assert len(particles) == len(truth)
    assert particles.volumes is not None
    assert len(particles.volumes.shape) - 1 == SOURCES[name].dims + (particles.volumes.shape[-1] == 3)
    stamp = made.particles.stat().st_mtime_ns
    assert dataset(name, data, tmp_path / "a", size=size).particles.stat().st_mtime_ns == stamp
    again = dataset(name, data, tmp_path / "b", size=size)
    rows = np.arange(len(particles))
    other = read_particles(again.particles, **again.reading)
    assert other.volumes is not None
    np.testing.assert_array_equal(particles.volumes.read(rows), other.volumes.read(rows))
    if name == "mnist-affine-one":
        assert {label: int(n) for label, n in zip(*np.unique(truth.identity, return_counts=True), strict=True)} == {"0": 4, "1": 4, "2": 4}  # fmt: skip
    if name == "rgb-contrast":
        assert set(truth.state) <= {"faint", "plain", "strong"}


def test_the_projections_without_truth(shared_data: Path, tmp_path: Path) -> None:
    made = dataset("spa", shared_data, tmp_path, size=20)
    assert made.truth is None
    assert len(read_particles(made.particles)) == 20


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("nothing", "is not a folder"),
        ("empty", r"mnist\.npz does not exist"),
        ("damaged", r"mnist\.npz cannot be read"),
        ("other", r"mnist\.npz has no array x_train"),
    ],
)
def test_data_that_are_missing_or_broken_are_one_sentence(
    broken: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    if broken != "nothing":
        (folder / "mnist").mkdir(parents=True)
    if broken == "damaged":
        (folder / "mnist" / "mnist.npz").write_bytes(b"nothing of the kind")
    if broken == "other":
        np.savez(folder / "mnist" / "mnist.npz", images=np.zeros(3))
    assert main(["benchmark", "run", str(folder), str(tmp_path / "out"), "--table", "mnist", "--device", "cpu"]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("napari-disentangle:")]
    assert len(told) == 1
    assert re.search(says, told[0])
    assert not (tmp_path / "out" / FILE).exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--table", "mnist", "--size", "mnist=61"], "There are 60 digits, not 61"),
        (["--table", "mnits"], 'no table "mnits"'),
        (["--table", "mnist", "--row", "nets"], 'no row "nets"'),
        (["--size", "mnist"], "write DATASET=N"),
        (["--size", "mnits=3"], 'no data set "mnits"'),
    ],
)
def test_names_that_are_not_there(words: list[str], says: str, data: Path, tmp_path: Path, capsys) -> None:
    assert main(["benchmark", "run", str(data), str(tmp_path / "out"), *words]) == 1
    assert says in capsys.readouterr().err


def test_results_that_are_not_there_or_newer(done: Path, tmp_path: Path, capsys) -> None:
    assert main(["benchmark", "tables", str(tmp_path)]) == 1
    assert "has no results" in capsys.readouterr().err
    (tmp_path / FILE).write_text(lines(done)[0].replace('"schema_version": 1', '"schema_version": 2', 1) + "\n")
    assert main(["benchmark", "tables", str(tmp_path)]) == 1
    assert "line 1 is no result that this version knows" in capsys.readouterr().err
    (tmp_path / FILE).write_bytes(b"\xff\xfe")
    assert main(["benchmark", "tables", str(tmp_path)]) == 1
    assert f"{tmp_path / FILE} cannot be read as results" in capsys.readouterr().err


def test_a_data_set_whose_description_is_broken(data: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "data" / "mnist-60-0"
    folder.mkdir(parents=True)
    (folder / "about.json").write_text("{")
    command = [
        "benchmark",
        "run",
        str(data),
        str(tmp_path),
        "--table",
        "mnist",
        "--size",
        "mnist=60",
        "--device",
        "cpu",
    ]
    assert main(command) == 1
    assert f"remove {folder}, and it is made again" in capsys.readouterr().err


def test_the_list_names_tables_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "list"]) == 0
    text = capsys.readouterr().out
    assert all(f"{name}  " in text for name in TABLES)
    assert "dualcontrast-negative-only" in text
    assert main(["benchmark", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["schema_version"] == 1
    assert [table["name"] for table in listed["tables"]] == list(TABLES)


def test_throughput_needs_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_disentangle.benchmark import throughput

    monkeypatch.setattr(throughput, "REPEATS", 2)
    monkeypatch.setattr(throughput, "STEPS", 1)
    row = Row("harmony-16", "harmony", ("training.batch_size=4",))
    (job,) = planned([replace(TABLES[THROUGHPUT], rows=(row,))], tmp_path)
    result: Result = run_job(replace(job, size=8), tmp_path / "none", tmp_path, device="cpu")
    assert len(result.particles_per_second["16"]) == 2
    assert min(result.particles_per_second["16"]) > 0


def test_what_is_followed_and_confused(data: Path, tmp_path: Path) -> None:
    settings = (
        *SMALL,
        "training.coarse_size=8",
        "training.epochs=2",
        "training.checkpoint_every=1",
        "pose.search=false",
    )
    table = replace(TABLES["trio"], rows=(Row("harmony", "harmony", settings),))
    (job,) = planned([table], tmp_path, sizes={"trio": 5})
    result = run_job(job, data, tmp_path, device="cpu")
    assert result.particles == 30
    assert [epoch for epoch, _, _ in result.followed] == [1, 2]
    assert {one.code for one in result.confusion} == {"content", "transformation"}
    (one, _) = result.confusion
    assert one.states == ("1aon_nm+00", "1aon_nm+20")
    assert np.sum(one.counts) == 10
    assert one.within_one == 1
    path, _ = write_tables(tmp_path, tmp_path / "docs")
    text = path.read_text()
    assert "Rows: the true state" in text
    assert "P(c|z) was 0.95" in text
