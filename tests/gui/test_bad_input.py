"""Bad input: the window says in one notification what the functions say, keeps nothing of it, and works on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from driving import AT, SHAPE, VOXEL, Window, click, drop, mapped, tick, write_list, write_table, write_tomogram

from napari_disentangle.errors import InputError
from napari_disentangle.export import export_selection
from napari_disentangle.io import read_particles
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.extract import extract
from napari_disentangle.io.mrc import open_map, read_header, write_volume_stack
from napari_disentangle.io.star import StarFile
from napari_disentangle.preview import box_for, preview
from napari_disentangle.run import Run
from napari_disentangle.training import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from napari_disentangle.run.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def sentence_of(function: Callable[..., Any], *given: Any, **more: Any) -> str:
    """What a function of ours says of its input."""
    with pytest.raises(InputError) as told:
        function(*given, **more)
    return str(told.value)


@contextmanager
def told_once(window: Window, line: Any, sentence: str, folder: Path) -> Iterator[None]:
    """What is done in the block is refused: one notification, the line of a panel, and nothing in the folder."""
    before, there = len(window.errors), everything_in(folder)
    yield
    window.until(lambda: len(window.errors) > before, 90)
    window.settle()
    assert window.errors[before:] == [sentence]
    assert line.text == sentence
    assert not line.isHidden()
    assert window.rooms.doing.text() == "", "the spinner turns on"
    assert everything_in(folder) == there, "something was left on disk"


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def numbers(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 16, 16, 16)).astype(np.float32)


def write_boxes(folder: Path, boxes: np.ndarray, *, listed: int | None = None) -> Path:
    """A list of boxes, of as many as it says."""
    folder.mkdir(exist_ok=True)
    write_volume_stack(folder / "boxes.mrcs", boxes, 10.0)
    n = len(boxes) if listed is None else listed
    table = {"rlnImageName": [f"{k + 1:06d}@boxes.mrcs" for k in range(n)], "rlnOpticsGroup": [1] * n}
    optics = {"rlnOpticsGroup": [1], "rlnImagePixelSize": [10.0], "rlnImageSize": [16], "rlnImageDimensionality": [3]}
    path = folder / "boxes.star"
    path.write_text(star_text({"optics": optics, "particles": table}))
    return path


def unreadable(folder: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Particles that cannot be read, and the tomogram or table that comes with them."""
    yield folder / "absent.star", {}

    write_volume_stack(folder / "cut.mrcs", numbers(4), 10.0)
    with (folder / "cut.mrcs").open("r+b") as file:
        file.truncate(20_000)
    yield folder / "cut.mrcs", {}

    (folder / "holiday.mrc").write_text("P6 is the format of a picture, and this is none either\n" * 40)
    yield folder / "holiday.mrc", {}

    (folder / "empty.star").touch()
    yield folder / "empty.star", {}

    (folder / "no_rows.star").write_text("data_particles\n\nloop_\n_rlnImageName #1\n\n")
    yield folder / "no_rows.star", {}

    (folder / "no_columns.star").write_text(
        star_text({"particles": {"rlnTomoName": ["ts"] * 3, "rlnCoordinateX": [1.0] * 3}})
    )
    yield folder / "no_columns.star", {}

    yield write_boxes(folder / "short", numbers(4), listed=9), {}

    # A voxel size of 0, in a tomogram.
    picks = write_list(folder / "picks.star", ["ts"] * 10, AT)
    yield picks, {"tomogram": write_tomogram(folder / "nothing.mrc", voxel=0)}

    # Half of the size is where RELION 5 counts from, and there are two sizes.
    yield sizes_that_disagree(folder)

    # The first thing that is wrong is what is told, though without the tomogram something else is.
    (folder / "half.mrc").write_bytes((folder / "nothing.mrc").read_bytes()[:50_000])
    origins = {f"rlnOrigin{k}": [1.5] * 10 for k in "XYZ"}
    yield write_list(folder / "origins.star", ["ts"] * 10, AT, **origins), {"tomogram": folder / "half.mrc"}


def sizes_that_disagree(folder: Path) -> tuple[Path, dict[str, Path]]:
    write_tomogram(folder / "volumes" / "a.mrc")
    table = write_table(folder / "tomograms.star", {"a": "volumes/a.mrc"})
    table.write_text(table.read_text().replace(f"\t{SHAPE[2]}\t", f"\t{SHAPE[2] + 20}\t"))
    centred = {f"rlnCenteredCoordinate{k}Angst": [-16.0, 0.0, 16.0] for k in "XYZ"}
    path = folder / "centred.star"
    path.write_text(star_text({"particles": {"rlnTomoName": ["a"] * 3, **centred}}))
    return path, {"tomograms": table}


def test_what_cannot_be_read(window: Window, tiny_stack: Path, tmp_path: Path):
    panel, seen = window.rooms.particles, []
    for path, given in unreadable(tmp_path):
        sentence = sentence_of(read_particles, path, **given)
        with told_once(window, panel.problem, sentence, tmp_path):
            drop(panel, path, *given.values())
        window.open(tiny_stack)
        assert panel.problem.isHidden()
        assert "30 particles" in panel.headline.text()
        seen.append(sentence)
    assert len(set(seen)) == len(seen) == 10


def test_the_remedy_of_a_refused_list_is_in_reach(window: Window, tmp_path: Path):
    """Also where nothing was opened before: what the sentence asks for can be said, and the list is read again."""
    bench, panel = window.bench, window.rooms.particles
    path, given = sizes_that_disagree(tmp_path)
    with told_once(window, panel.problem, sentence_of(read_particles, path, **given), tmp_path):
        drop(panel, path, *given.values())
    assert bench.session.source is None
    window.until(lambda: panel.read_again.isVisible() and panel.read_again.height() > 10)
    panel.size_from.setCurrentText("volume")
    click(panel.read_again)
    window.until(lambda: bench.session.source is not None)
    again = read_particles(path, **given, size_from="volume")
    np.testing.assert_array_equal(bench.session.source.particles.positions, again.positions)
    assert panel.problem.isHidden()

    nothing = write_tomogram(tmp_path / "nothing.mrc", voxel=0)
    picks = write_list(tmp_path / "picks.star", ["ts"] * 10, AT)
    with told_once(window, panel.problem, sentence_of(read_particles, picks, tomogram=nothing), tmp_path):
        drop(panel, picks, nothing)
    assert bench.session.source.path == path, "what was open stays open"
    assert panel.size_from.currentText() == "refuse"
    panel.voxel_size.setValue(VOXEL)
    click(panel.read_again)
    window.until(lambda: bench.session.source.path == picks)
    np.testing.assert_array_equal(
        bench.session.source.particles.positions, read_particles(picks, tomogram=nothing, voxel_size=VOXEL).positions
    )
    assert len(window.errors) == 2


def test_what_cannot_be_trained_on(window: Window, tiny_stack: Path, tmp_path: Path):
    bench, rooms = window.bench, window.rooms
    out = tmp_path.parent / f"{tmp_path.name}_out"

    def looks_right() -> None:
        rooms.tabs.setCurrentIndex(0)
        click(rooms.particles.right)

    def works_on() -> None:
        window.open(tiny_stack)
        assert rooms.particles.problem.isHidden()

    # Boxes whose voxel size nobody says are told at the first look, and again when the user goes on.
    write_volume_stack(tmp_path / "nothing.mrcs", numbers(12), 0.0)
    sentence = sentence_of(prepare, tmp_path / "nothing.mrcs", out)
    with told_once(window, rooms.particles.problem, sentence, tmp_path):
        bench.opening.open(tmp_path / "nothing.mrcs")
    with told_once(window, rooms.particles.problem, sentence, tmp_path):
        looks_right()
    rooms.tabs.setCurrentIndex(0)
    click(rooms.particles.bright)  # whoever knows that goes on without a look
    with told_once(window, rooms.training.problem, sentence, tmp_path):
        looks_right()
    works_on()

    # Every box lies outside: at the first look, and when they are to be cut.
    picks = write_list(tmp_path / "away.star", ["ts"] * 10, AT + 500)
    tomogram = write_tomogram(tmp_path / "ts.mrc")
    particles, shape = read_particles(picks, tomogram=tomogram), box_for(80, VOXEL)
    drop(rooms.particles, picks, tomogram)
    window.until(lambda: bench.session.source.path == picks)
    assert "10 of 10 particles lie outside" in rooms.particles.notes.text()
    with told_once(window, rooms.particles.problem, sentence_of(preview, particles, diameter=80), tmp_path):
        rooms.particles.diameter.setValue(80)
    sentence = sentence_of(extract, particles, out, box=shape.size, bin=shape.bin, edge="skip")
    rooms.tabs.setCurrentIndex(0)
    click(rooms.particles.bright)
    with told_once(window, rooms.particles.problem, sentence, tmp_path):
        looks_right()
    works_on()

    # Voxels that are no numbers: which particles is said.
    boxes = open_map(read_header(tiny_stack.with_name("particles.mrcs"))).copy()
    boxes[[3, 7], 5, 5, 5] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        broken = write_boxes(tmp_path / "broken", boxes)
    window.open(broken)
    sentence = sentence_of(prepare, broken, out)
    assert "particles 3, 7 (counted from 0)" in sentence
    with told_once(window, rooms.training.problem, sentence, tmp_path):
        looks_right()
    works_on()

    few = write_boxes(tmp_path / "few", numbers(5))
    window.open(few)
    with told_once(window, rooms.training.problem, sentence_of(prepare, few, out), tmp_path):
        looks_right()
    works_on()
    assert not bench.trainer.active
    assert bench.session.run is None
    assert not out.exists()


def test_runs_that_cannot_be_opened_or_written(window: Window, trained: Run, tiny_stack: Path, tmp_path: Path):
    bench, rooms = window.bench, window.rooms
    newer = tmp_path / "newer"
    shutil.copytree(trained.path, newer)
    recipe = newer / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("schema_version = 1", "schema_version = 99"))
    with told_once(window, rooms.particles.problem, sentence_of(Run.open, newer), tmp_path):
        drop(rooms.particles, newer)
    assert bench.session.run is None
    window.open(tiny_stack)
    assert rooms.particles.problem.isHidden()

    # A run that can be resumed, and that somebody else has just begun to write.
    run = mapped(trained, tmp_path / "run")
    events = run.path / "events.jsonl"
    lines = events.read_text().splitlines()
    assert '"finished"' in lines[-1]
    events.write_text("\n".join([*lines[:-1], lines[-1].replace('"finished"', '"stopped"')]) + "\n")
    window.open_run(run.path)
    assert window.errors == window.errors[:1]
    rooms.tabs.setCurrentIndex(1)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        sentence = sentence_of(run.lock().__enter__)
        assert f"process {holder.pid}" in sentence
        before = events.read_text()
        run.ask_to_stop()
        click(rooms.training.resume)
        window.until(lambda: len(window.errors) > 1, 90)
        assert window.errors[1:] == [sentence]
        assert "started elsewhere" in rooms.training.state.text(), "the window follows whoever writes there"
        assert rooms.training.problem.text == sentence
        assert rooms.training.problem.isVisible()
        assert events.read_text() == before
        assert run.stop_asked(), "what was asked of the other process still is"
        assert (
            Run.open(run.path).writer() == f"process {holder.pid} on {sentence.partition(' on ')[2].partition(';')[0]}"
        )
    finally:
        holder.communicate(b"", timeout=20)
    window.until(lambda: rooms.training.resume.isEnabled())
    rooms.tabs.setCurrentIndex(0)
    window.open(tiny_stack)
    assert len(window.errors) == 2


def test_exports_that_cannot_be_written(window: Window, trained: Run, tmp_path: Path):
    bench = window.bench
    run = mapped(trained, tmp_path / "run")
    window.open_run(run.path)
    click(window.maps._chips.itemAt(1).widget())
    selection = run.selection("auto/1")
    assert bench.session.selection.ids.tolist() == selection.ids.tolist()

    (tmp_path / "letter.txt").write_text("not a folder")
    out = tmp_path / "letter.txt" / "chosen.star"
    dialog = window.export_dialog(out)
    with told_once(window, dialog.problem, sentence_of(export_selection, run, selection, out), tmp_path):
        click(dialog.write)
    assert dialog.isVisible()
    click(dialog.buttons.button(dialog.buttons.StandardButton.Cancel))

    # Something is there already: it is replaced only with the box ticked, and then whole.
    out = tmp_path / "mine.star"
    out.write_text("years of work\n")
    dialog = window.export_dialog(out)
    with told_once(window, dialog.problem, sentence_of(export_selection, run, selection, out), tmp_path):
        click(dialog.write)
    tick(dialog.overwrite)
    with window._qtbot.waitSignal(bench.results.exported, timeout=10_000):
        click(dialog.write)
    block = next(b for b in StarFile.read(out).blocks if "rlnImageName" in b)
    original = next(b for b in StarFile.read(run.particles().original).blocks if "rlnImageName" in b)
    assert block.rows == [original.rows[i] for i in selection.ids]
    assert len(window.errors) == 2
    assert window.rooms.averages.problem.isHidden(), "what was wrong has been put right"

    # The rest and the maps are looked at before anything is written.
    (tmp_path / "new.json").write_text("{}")
    dialog = window.export_dialog(tmp_path / "new.star")
    tick(dialog.rest)
    with told_once(window, dialog.problem, f"{tmp_path / 'new.json'} exists already; choose another name, or replace it (--overwrite).", tmp_path):  # fmt: skip
        click(dialog.write)
    click(dialog.buttons.button(dialog.buttons.StandardButton.Cancel))
    bench.session.select(bench.session.ids, {"tool": "all"})
    dialog = window.export_dialog(tmp_path / "all.star")
    tick(dialog.rest)
    with told_once(window, dialog.problem, f"The selection drawn/0 is all of the list, so nothing is left; {tmp_path / 'all_rest.star'} was not written.", tmp_path):  # fmt: skip
        click(dialog.write)
    click(dialog.buttons.button(dialog.buttons.StandardButton.Cancel))
