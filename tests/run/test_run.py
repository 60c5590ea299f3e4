"""The run folder: made whole, read by anyone, refused when it is another's."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.export import export_selection
from napari_disentangle.io import read_particles
from napari_disentangle.models.base import Codes
from napari_disentangle.particles import Pose
from napari_disentangle.run import Embedding, Run
from napari_disentangle.selection import Selection
from napari_disentangle.training import prepare


@pytest.fixture
def stack(tiny_stack, tmp_path) -> Path:
    """A list of boxes that may be changed."""
    folder = tmp_path / "boxes"
    folder.mkdir()
    for name in ("particles.star", "particles.mrcs"):
        shutil.copy(tiny_stack.parent / name, folder)
    return folder / "particles.star"


@pytest.fixture
def run(stack, tmp_path, tiny) -> Run:
    """Not trained yet."""
    return prepare(stack, tmp_path / "run", settings=tiny)


def some_codes(n: int = 30, *, pose: bool = True) -> Codes:
    rng = np.random.default_rng(0)
    return Codes(
        np.arange(n), rng.standard_normal((n, 3)).astype(np.float32), rng.standard_normal((n, 12)).astype(np.float32),
        Pose(rng.standard_normal((n, 3, 3)), rng.standard_normal((n, 3))) if pose else None, 4, "abc",
    )  # fmt: skip


def rewrite(path: Path, **changes: np.ndarray) -> None:
    with np.load(path) as stored:
        values = dict(stored)
    np.savez(path, **(values | changes))


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestMaking:
    def test_a_new_run_has_all_it_needs(self, run, stack):
        assert run.state() == "new"
        assert run.checkpoint() is None
        assert run.fingerprint() is None
        assert set(listing(run.path)) == {
            "recipe.toml", "particles/ids.npy", "particles/original.star", "particles/source.json",
        }  # fmt: skip
        assert (run.path / "particles/original.star").read_bytes() == stack.read_bytes()
        source = json.loads((run.path / "particles/source.json").read_text())
        assert (source["schema_version"], source["count"], source["voxel_size"]) == (1, 30, 20.0)
        assert Path(source["path"]).is_absolute()

    def test_opened_it_is_the_same(self, run):
        again = Run.open(run.path)
        assert again.recipe == run.recipe
        np.testing.assert_array_equal(again.ids(), np.arange(30))
        assert len(again.particles()) == 30
        assert again.recipe.versions.keys() >= {"torch", "numpy", "python", "napari-disentangle"}

    def test_an_existing_run_is_not_overwritten_unless_asked(self, run, stack, tiny):
        (run.path / "mine.txt").write_text("x")
        before = listing(run.path)
        with pytest.raises(InputError, match=r"exists already.*--overwrite"):
            prepare(stack, run.path, settings=tiny)
        assert listing(run.path) == before
        prepare(stack, run.path, settings=[*tiny, "training.seed=5"], overwrite=True)
        assert Run.open(run.path).recipe.training.seed == 5
        assert not (run.path / "mine.txt").exists()

    def test_anything_else_is_never_overwritten(self, stack, tmp_path, tiny):
        home = tmp_path / "home"
        home.mkdir()
        (home / "thesis.tex").write_text("x")
        with pytest.raises(InputError, match=r"has no recipe\.toml"):
            prepare(stack, home, settings=tiny, overwrite=True)
        assert [p.name for p in home.iterdir()] == ["thesis.tex"]
        with pytest.raises(InputError, match="is a file"):
            prepare(stack, home / "thesis.tex", settings=tiny, overwrite=True)

    def test_a_run_that_is_read_from_is_not_overwritten(self, run, tiny):
        """Neither the run whose selection is trained on, nor one that holds the list."""
        run.save_selections("A", [Selection("A/0", np.arange(20))])
        exported = run.path / "exports/some.star"
        export_selection(run, run.selection("A/0"), exported)
        before = listing(run.path)
        for given, selection in ((run.path, "A/0"), (exported, None)):
            with pytest.raises(InputError, match="is read from"):
                prepare(given, run.path, settings=tiny, selection=selection, overwrite=True)
            assert listing(run.path) == before

    def test_a_run_that_somebody_writes_is_not_overwritten(self, run, stack, tiny):
        (run.path / "lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "heartbeat": time.time()}))
        before = listing(run.path)
        with pytest.raises(InputError, match="being written by process 1 on elsewhere"):
            prepare(stack, run.path, settings=tiny, overwrite=True)
        assert listing(run.path) == before
        (run.path / "lock").unlink()
        with run.lock(), pytest.raises(InputError, match=f"being written by process {os.getpid()}"):
            prepare(stack, run.path, settings=tiny, overwrite=True)
        prepare(stack, run.path, settings=tiny, overwrite=True)
        assert not (run.path / "lock").exists()

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_an_error_leaves_what_was_there(self, run, stack, tmp_path, tiny, monkeypatch, overwrite):
        before = listing(tmp_path)
        monkeypatch.setattr(np, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            prepare(stack, run.path if overwrite else tmp_path / "other", settings=tiny, overwrite=overwrite)
        assert listing(tmp_path) == before

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            (["training.epoch=1"], "no setting"), (["training.coarse_size=32"], "smaller than the 32"),
            (["pose.diameter=500"], "does not fit"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_trained_makes_no_folder(self, stack, tmp_path, tiny, settings, sentence):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(InputError, match=sentence):
            prepare(stack, tmp_path / "run", settings=[*tiny, *settings])
        assert sorted(tmp_path.iterdir()) == before

    def test_nor_does_a_pose_mode_without_poses(self, stack, tmp_path, tiny):
        with pytest.raises(InputError, match="no poses"):
            prepare(stack.parent / "particles.mrcs", tmp_path / "run", settings=[*tiny, "pose.mode=local"])
        assert not (tmp_path / "run").exists()

    def test_a_selection_of_another_run(self, run, tmp_path, tiny):
        run.save_selections("A", [Selection("A/0", np.arange(3, 21, 2)), Selection("A/1", np.array([1]))])
        made = prepare(run.path, tmp_path / "part", settings=tiny, selection="A/0")
        np.testing.assert_array_equal(made.particles().ids, np.arange(3, 21, 2))
        assert made.recipe.input.selection == f"{run.path}: A/0"
        assert len(made.particles().text or "") == len(run.particles().text or "-")
        for name, sentence in (("A/1", "at least 8"), ("A/7", "no selection")):
            with pytest.raises(InputError, match=sentence):
                prepare(run.path, tmp_path / "none", settings=tiny, selection=name)


class TestOpening:
    def test_what_is_no_run(self, tmp_path):
        with pytest.raises(InputError, match="not a run folder; check"):
            Run.open(tmp_path / "nowhere")
        with pytest.raises(InputError, match=r"no recipe\.toml"):
            Run.open(tmp_path)

    def test_a_newer_schema(self, run):
        path = run.path / "recipe.toml"
        path.write_text(path.read_text().replace("schema_version = 1", "schema_version = 2"))
        with pytest.raises(InputError, match="newer napari-disentangle"):
            Run.open(run.path)

    def test_a_list_that_changed_on_disk(self, run, stack):
        stack.write_text(stack.read_text().replace("000002@", "000003@", 1))
        with pytest.raises(InputError, match=r"particles\.star has changed since .*original\.star"):
            run.particles()

    def test_particles_that_are_gone(self, run, stack):
        stack.unlink()
        with pytest.raises(InputError, match="does not exist"):
            run.particles()

    def test_a_stack_with_fewer_particles_than_before(self, stack, tmp_path, tiny):
        boxes = stack.parent / "particles.mrcs"
        made = prepare(boxes, tmp_path / "run", settings=tiny)
        assert not (made.path / "particles/original.star").exists()
        assert len(made.particles()) == 30
        from napari_disentangle.io.mrc import write_volume_stack

        write_volume_stack(boxes, np.random.default_rng(0).standard_normal((9, 16, 16, 16)), 20.0, overwrite=True)
        with pytest.raises(InputError, match="no longer holds all particles"):
            made.particles()

    def test_how_the_files_were_read_is_repeated(self, stack, tmp_path, tiny):
        reading = {"tilt_range": (-50.0, 60.0), "voxel_size": 19.0, "tomograms": None}
        made = prepare(stack, tmp_path / "run", settings=tiny, reading=reading)
        found = Run.open(made.path).particles()
        assert (found.tilt_range, found.voxel_size) == ((-50.0, 60.0), 19.0)

    def test_dark_protein_is_turned_over_whenever_it_is_read(self, stack, tmp_path, tiny):
        bright, dark = (
            prepare(stack, tmp_path / "a", settings=tiny),
            prepare(stack, tmp_path / "b", settings=tiny, invert=True),
        )
        assert (bright.recipe.input.invert, dark.recipe.input.invert) == (False, True)
        assert Run.open(dark.path).recipe.input.invert
        rows = np.array([3, 0, 29])
        np.testing.assert_array_equal(
            Run.open(dark.path).particles().volumes.read(rows), -bright.particles().volumes.read(rows)
        )
        np.testing.assert_array_equal(bright.particles().volumes.read(rows), read_particles(stack).volumes.read(rows))

    def test_so_it_is_in_a_run_of_a_selection(self, stack, tmp_path, tiny):
        first = prepare(stack, tmp_path / "first", settings=tiny, invert=True)
        first.save_selections("A", [Selection("A/0", np.arange(10, 25))])
        for again in (False, True):  # it is read as the first run reads it, and not turned twice
            second = prepare(first.path, tmp_path / f"second{again}", settings=tiny, selection="A/0", invert=again)
            np.testing.assert_array_equal(
                second.particles().volumes.read(np.array([0])), -read_particles(stack).volumes.read(np.array([10]))
            )

    def test_a_run_from_before_there_was_such_a_setting(self, stack, tmp_path, tiny):
        run = prepare(stack, tmp_path / "run", settings=tiny)
        text = (run.path / "recipe.toml").read_text()
        assert "\ninvert = false\n" in text
        (run.path / "recipe.toml").write_text(text.replace("\ninvert = false\n", "\n"))
        again = Run.open(run.path)
        assert again.recipe == run.recipe
        np.testing.assert_array_equal(
            again.particles().volumes.read(np.array([5])), run.particles().volumes.read(np.array([5]))
        )

    def test_text_that_no_encoding_knows_is_kept(self, stack, tmp_path, tiny):
        stack.write_bytes(b"# caf\xe9\r\n" + stack.read_bytes())
        made = prepare(stack, tmp_path / "run", settings=tiny)
        assert (made.path / "particles/original.star").read_bytes() == stack.read_bytes()
        assert made.particles().text == read_particles(stack).text


class TestState:
    def test_the_last_event_tells(self, run):
        for event, state in [
            ("started", "unfinished"), ("progress", "unfinished"), ("stopped", "stopped"), ("started", "unfinished"),
            ("failed", "failed"), ("finished", "finished"),
        ]:  # fmt: skip
            run.say(event)
            assert run.state() == state
        assert [e["event"] for e in run.events()][-1] == "finished"

    def test_who_writes(self, run):
        assert run.writer() is None
        with run.lock():
            assert run.writer() == f"process {os.getpid()} on {socket.gethostname()}"
        assert run.writer() is None

    def test_the_stop_file(self, run):
        assert not run.stop_asked()
        run.clear_stop()
        run.ask_to_stop()
        assert (run.path / "stop").exists()
        assert run.stop_asked()
        run.clear_stop()
        assert not run.stop_asked()


class TestCodes:
    @pytest.mark.parametrize("pose", [True, False])
    def test_they_come_back(self, run, pose):
        codes = some_codes(pose=pose)
        run.save_codes(codes)
        found = Run.open(run.path).codes()
        for key in ("ids", "content", "transform"):
            np.testing.assert_array_equal(getattr(found, key), getattr(codes, key))
            assert getattr(found, key).dtype == getattr(codes, key).dtype
        assert (found.epoch, found.fingerprint, run.fingerprint()) == (4, "abc", "abc")
        assert (found.pose is None) is not pose
        if pose:
            np.testing.assert_array_equal(found.pose.rotations, codes.pose.rotations)

    def test_before_training_there_are_none(self, run):
        with pytest.raises(InputError, match="no codes yet; train it first"):
            run.codes()

    def test_a_newer_schema_and_a_damaged_file_are_refused(self, run):
        run.save_codes(some_codes())
        path = run.path / "codes.npz"
        rewrite(path, schema_version=np.array(2))
        with pytest.raises(InputError, match=r"codes\.npz was written by a newer napari-disentangle"):
            run.codes()
        for content in (b"", b"PK\x03\x04 torn", b"hello"):
            path.write_bytes(content)
            with pytest.raises(InputError, match=r"codes\.npz cannot be read"):
                run.codes()

    def test_an_error_while_writing_keeps_the_old_ones(self, run, monkeypatch):
        run.save_codes(some_codes())
        before = listing(run.path)
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            run.save_codes(some_codes(20))
        assert listing(run.path) == before

    def test_no_pickle_is_ever_loaded(self, run):
        run.save_codes(some_codes())
        rewrite(run.path / "codes.npz", content=np.array([{"a": 1}], dtype=object))
        with pytest.raises(ValueError, match="allow_pickle"):
            run.codes()


class TestEmbeddings:
    def test_they_come_back_and_are_kept_apart(self, run):
        xy = np.random.default_rng(0).standard_normal((30, 2)).astype(np.float32)
        for space, method in (("content", "umap"), ("content", "pca"), ("invariants", "pca")):
            path = run.save_embedding(Embedding(space, method, np.arange(30), xy, f"{space}-{method}"))
            assert path.is_file()
        found = run.embedding("content", "pca")
        assert found is not None
        assert found.fingerprint == "content-pca"
        np.testing.assert_array_equal(found.coordinates, xy)
        assert run.embedding("transform", "pca") is None
        rewrite(path, schema_version=np.array(7))
        with pytest.raises(InputError, match="newer"):
            run.embedding("invariants", "pca")


class TestSelections:
    def test_they_come_back_in_natural_order(self, run):
        run.save_selections(
            "A", [Selection(f"A/{k}", np.array([k, 1, 1]), {"method": "gmm", "k": 12}) for k in range(12)]
        )
        run.save_selections("junk", [Selection("junk/hand", np.array([7]), {"polygon": [[0, 0.5], [1, 1], [0, 1]]})])
        assert run.selections() == [f"A/{k}" for k in range(12)] + ["junk/hand"]
        found = run.selection("A/11")
        assert (found.name, found.ids.tolist(), found.how) == ("A/11", [1, 11], {"method": "gmm", "k": 12})
        assert run.selection("junk/hand").how["polygon"][0] == [0, 0.5]

    def test_a_group_is_replaced_as_a_whole(self, run):
        run.save_selections("A", [Selection(f"A/{k}", np.array([k])) for k in range(3)])
        run.save_selections("B", [Selection("B/0", np.array([5]))])
        run.save_selections("A", [Selection("A/0", np.array([9]))])
        assert run.selections() == ["A/0", "B/0"]
        assert run.selection("A/0").ids.tolist() == [9]

    def test_they_are_listed_while_one_is_written(self, run):
        run.save_selections("B", [Selection("B/0", np.array([5]))])
        with ThreadPoolExecutor(1) as writer:
            written = writer.submit(
                lambda: [run.save_selections("A", [Selection("A/0", np.array([k]))]) for k in range(300)]
            )
            while not written.done():
                assert set(run.selections()) in ({"B/0"}, {"A/0", "B/0"})
        assert written.exception() is None

    def test_they_are_named_after_their_group(self, run):
        run.save_selections("B", [Selection("A/0", np.array([5])), Selection("rest", np.array([6]))])
        assert [run.selection(name).name for name in run.selections()] == ["B/0", "B/rest"]

    @pytest.mark.parametrize("name", ["A/1", "C", "../recipe", "A", "", "A/0/0", "/etc/passwd", "A/../A/0"])
    def test_one_that_is_not_there_lists_the_others(self, run, name):
        run.save_selections("A", [Selection("A/0", np.array([5]))])
        with pytest.raises(InputError, match=r"no selection .*it has A/0"):
            run.selection(name)

    def test_before_any_it_says_how_to_make_some(self, run):
        assert run.selections() == []
        with pytest.raises(InputError, match="napari-disentangle cluster"):
            run.selection("A/0")

    @pytest.mark.parametrize("group", ["", ".", "..", "a/b", "a b", ".hidden", "../up"])
    def test_names_that_are_no_names_for_files(self, run, group):
        before = listing(run.path)
        with pytest.raises(InputError, match="cannot name a selection"):
            run.save_selections(group, [Selection("x/0", np.array([1]))])
        assert listing(run.path) == before

    def test_an_error_in_between_keeps_the_old_ones(self, run):
        run.save_selections("A", [Selection("A/0", np.array([5]))])
        before = sorted(run.path.rglob("*"))

        def broken():
            yield Selection("A/0", np.array([6]))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run.save_selections("A", broken())
        assert sorted(run.path.rglob("*")) == before
        assert run.selection("A/0").ids.tolist() == [5]

    def test_a_newer_schema_is_refused(self, run):
        run.save_selections("A", [Selection("A/0", np.array([5]))])
        path = run.path / "selections/A/0.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
        with pytest.raises(InputError, match=r"0\.json was written by a newer"):
            run.selection("A/0")


def test_nothing_in_a_trained_run_is_a_pickle(trained):
    """Every file is text, safetensors, or arrays of plain numbers and letters."""
    files = [p for p in trained.path.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} == {"", ".toml", ".jsonl", ".json", ".star", ".npy", ".npz", ".safetensors"}
    arrays = 0
    for path in files:
        data = path.read_bytes()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                members = [archive.read(name) for name in archive.namelist()]
        elif path.suffix == ".npy":
            members = [data]
        elif path.suffix == ".safetensors":
            json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            continue
        else:
            data.decode()
            continue
        for member in members:
            assert np.load(io.BytesIO(member), allow_pickle=False).dtype.kind in "iufU"
            arrays += 1
    assert arrays > 6
    assert not list(trained.path.rglob(".*"))  # nor anything half-written
    assert not (trained.path / "lock").exists()
