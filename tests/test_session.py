"""What is open, trained, mapped and selected: told once, aligned by ids, and never lost by a training."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from psygnal.testing import SignalTester

from napari_disentangle.errors import InputError
from napari_disentangle.io.compose import star_text
from napari_disentangle.io.mrc import write_volume
from napari_disentangle.models.base import Codes
from napari_disentangle.particles import ParticleSet
from napari_disentangle.run import Embedding, Run
from napari_disentangle.selection import Selection
from napari_disentangle.session import RunState, Session, open_source, read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNALS = (
    "source_changed", "run_changed", "maps_changed", "groups_changed", "selection_changed", "averages_changed",
)  # fmt: skip


@contextmanager
def tells(session: Session, *names: str) -> Iterator[None]:
    """Each of these signals is told exactly once in the block, with nothing, and no other signal is."""
    testers = {name: SignalTester(getattr(session, name)) for name in SIGNALS}
    for tester in testers.values():
        tester.connect()
    yield
    for tester in testers.values():
        tester.disconnect()
    assert {name: tester.emit_count for name, tester in testers.items()} == {n: int(n in names) for n in SIGNALS}
    assert all(tester.emit_args == () for tester in testers.values())


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A trained run that may be changed."""
    return Run.open(shutil.copytree(trained.path, tmp_path / "run"))


@pytest.fixture
def session(run: Run) -> Session:
    """A session that shows the run, in whose folder there are two groups and a map."""
    run.save_selections("auto", [Selection("auto/0", np.arange(20)), Selection("auto/1", np.arange(20, 28))])
    found = Session()
    found.set_run(read_run(run))
    return found


def mapped(run: Run, ids: Any, *, fingerprint: str = "abc") -> Embedding:
    """A map on which every particle lies at (id, -id), kept in the run."""
    ids = np.asarray(ids, dtype=np.int64)
    made = Embedding("content", "pca", ids, np.stack([ids, -ids], 1).astype(np.float32), fingerprint)
    run.save_embedding(made)
    return made


class TestOpening:
    def test_a_list(self, tiny_stack):
        source = open_source(tiny_stack, {"tilt_range": (-60.0, 60.0), "voxel_size": None}, diameter=150)
        assert len(source.particles) == 30
        assert source.particles.tilt_range == (-60, 60)
        assert source.description.kind == "boxes"
        assert source.description.particles == 30
        assert (source.path, source.diameter) == (tiny_stack, 150)
        assert source.reading == {"tilt_range": (-60.0, 60.0)}, "what was not said is left out"

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(InputError, match=r"absent\.star does not exist"):
            open_source(tmp_path / "absent.star")

    def test_a_table_of_tomograms_is_named_as_what_it_is(self, tmp_path):
        write_volume(tmp_path / "a.mrc", np.zeros((8, 8, 8), np.float32), 10.0)
        table = {
            "rlnTomoName": ["a", "b"], "rlnTomoTiltSeriesPixelSize": [10.0] * 2, "rlnTomoTomogramBinning": [1.0] * 2,
            "rlnTomoSizeX": [8] * 2, "rlnTomoSizeY": [8] * 2, "rlnTomoSizeZ": [8] * 2,
            "rlnTomoReconstructedTomogram": ["a.mrc"] * 2,
        }  # fmt: skip
        path = tmp_path / "tomograms.star"
        path.write_text(star_text({"global": table}))
        with pytest.raises(InputError, match=r"table of 2 tomograms and names no particles; open the particle list"):
            open_source(path)

    def test_anything_else_that_cannot_be_read_keeps_its_own_sentence(self, tmp_path):
        write_volume(tmp_path / "volume.mrc", np.zeros((8, 8, 8), np.float32), 10.0)
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(InputError, match=r"volume\.mrc"):
            open_source(tmp_path / "volume.mrc")
        with pytest.raises(InputError, match="not a particle list"):
            open_source(tmp_path / "notes.txt")

    def test_a_source_is_told_and_its_diameter_follows_from_its_boxes(self, tiny_stack):
        session = Session()
        with tells(session, "source_changed"):
            session.set_source(open_source(tiny_stack))
        assert session.diameter == 200  # 16 voxels of 20 A / 1.6
        session.set_source(open_source(tiny_stack, diameter=150))
        assert session.diameter == 150
        session.set_diameter(170)
        assert session.diameter == 170

    def test_without_boxes_no_diameter_is_made_up(self, tiny_stack):
        source = open_source(tiny_stack)
        session = Session()
        for particles in (replace(source.particles, volumes=None), replace(source.particles, voxel_size=None)):
            session.set_source(replace(source, particles=particles))
            assert session.diameter is None

    def test_another_list_is_asked_for_its_contrast_again_and_the_same_one_is_not(self, tiny_stack, tmp_path):
        session = Session()
        session.set_source(open_source(tiny_stack))
        session.invert = session.contrast_chosen = True
        session.set_source(open_source(tiny_stack, {"tilt_range": (-60.0, 60.0)}))
        assert (session.invert, session.contrast_chosen) == (True, True)
        for name in ("particles.star", "particles.mrcs"):
            shutil.copy(tiny_stack.parent / name, tmp_path)
        session.set_source(open_source(tmp_path / "particles.star"))
        assert (session.invert, session.contrast_chosen) == (False, False)

    def test_opening_a_list_leaves_the_run_that_is_shown(self, session, tiny_stack):
        before = session.run
        session.set_source(open_source(tiny_stack))
        assert session.run is before


class TestReading:
    def test_everything_that_is_shown_is_read(self, run):
        made = mapped(run, range(30))
        run.save_selections("auto", [Selection("auto/0", np.arange(5)), Selection("auto/1", np.arange(5, 9))])
        run.save_selections("automatic", [Selection("automatic/0", np.arange(3))])
        run.save_selections("drawn", [Selection("drawn/0", np.array([3, 1]), {"tool": "lasso"})])
        state = read_run(run)
        assert (state.state, state.writer) == ("finished", None)
        assert state.codes is not None
        assert state.codes.fingerprint == run.fingerprint()
        assert set(state.maps) == {("content", "pca"), ("invariants", "pca")}
        np.testing.assert_array_equal(state.maps["content", "pca"].coordinates, made.coordinates)
        assert [group.name for group in state.groups] == ["auto/0", "auto/1"]
        assert state.grouping == "auto"
        assert state.saved == ("auto/0", "auto/1", "automatic/0", "drawn/0")
        assert state.drawn is not None
        assert (state.drawn.ids.tolist(), state.drawn.how) == ([1, 3], {"tool": "lasso"})
        assert len(state.particles) == 30
        assert state.particles.tilt_range == (-60, 60)

    def test_an_untrained_run_has_no_codes_yet(self, run):
        for name in ("codes.npz", "events.jsonl"):
            (run.path / name).unlink()
        state = read_run(run)
        assert (state.codes, state.state, state.drawn, state.groups) == (None, "new", None, ())

    def test_particles_that_were_read_before_are_not_read_again(self, run, monkeypatch):
        particles = run.particles()
        monkeypatch.setattr(Run, "particles", lambda _: pytest.fail("read again"))
        assert read_run(run, particles).particles is particles

    def test_other_groups_are_read_by_their_name(self, run):
        run.save_selections("mine", [Selection("mine/0", np.arange(3))])
        assert read_run(run).groups == (), "one selection of the user is no clustering"
        named = read_run(run, grouping="mine")
        assert (named.grouping, [group.name for group in named.groups]) == ("mine", ["mine/0"])

    def test_a_clustering_made_elsewhere_is_shown_where_the_window_has_made_none(self, run):
        run.save_selections("B", [Selection("B/0", np.arange(3)), Selection("B/1", np.arange(3, 6))])
        run.save_selections("A", [Selection("A/0", np.arange(9))])
        found = read_run(run)
        assert (found.grouping, [group.name for group in found.groups]) == ("B", ["B/0", "B/1"])
        run.save_selections("auto", [Selection("auto/0", np.arange(3)), Selection("auto/1", np.arange(3, 6))])
        assert read_run(run).grouping == "auto"

    def test_who_writes_is_told(self, run):
        with run.lock():
            assert "process" in (read_run(run).writer or "")
        assert read_run(run).writer is None

    def test_particles_that_are_gone_are_told(self, run):
        recipe = run.path / "recipe.toml"
        recipe.write_text(recipe.read_text().replace("particles.star", "gone.star"))
        with pytest.raises(InputError, match=r"gone\.star does not exist"):
            read_run(Run.open(run.path))


class TestShowing:
    def test_a_run_is_told_once_with_all_that_belongs_to_it(self, run):
        run.save_selections("drawn", [Selection("drawn/0", np.arange(4))])
        session = Session()
        assert session.is_new
        with tells(session, *SIGNALS[1:]):
            session.set_run(read_run(run))
        assert session.run is run
        assert not session.is_new
        assert session.fingerprint == run.fingerprint()
        np.testing.assert_array_equal(session.ids, np.arange(30))
        assert session.selected.sum() == 4

    def test_another_run_leaves_nothing_of_the_one_before(self, session, run, tmp_path):
        session.select(np.arange(7), {})
        session.keep_average("auto/0", "an average")
        session.grouping = "mine"
        session.refresh(read_run(run, grouping="mine"))
        assert (session.grouping, session.saved) == ("mine", ("auto/0", "auto/1"))
        other = Run.open(shutil.copytree(run.path, tmp_path / "other"))
        shutil.rmtree(other.path / "selections")
        session.set_run(read_run(other))
        assert (session.selection, session.averages, session.grouping) == (None, {}, "auto")
        assert (session.groups, session.saved) == ((), ())
        session.undo()
        assert session.selection is None

    def test_a_refresh_brings_new_codes_and_maps_and_keeps_the_selection(self, session, run):
        session.select(np.array([2, 29]), {"tool": "lasso"})
        session.keep_average("auto/0", "an average")
        run.save_codes(replace(run.codes(), fingerprint="new"))
        mapped(run, range(30), fingerprint="new")
        chosen = session.selection
        with tells(session, "maps_changed", "averages_changed"):
            session.refresh(read_run(run))
        assert session.fingerprint == "new"
        assert ("content", "pca") in session.maps
        assert session.selection is chosen
        assert session.averages == {"auto/0": "an average"}
        session.undo()
        assert session.selection is None
        session.redo()
        assert session.selection is chosen

    @pytest.mark.parametrize(
        "groups",
        [
            [Selection("auto/0", np.arange(20))], [],
            [Selection("auto/0", np.arange(20)), Selection("auto/1", np.arange(20, 29))],
            [Selection("auto/1", np.arange(20)), Selection("auto/0", np.arange(20, 28))],
        ],
    )  # fmt: skip
    def test_other_groups_are_told(self, session, run, groups):
        run.save_selections("auto", groups)
        with tells(session, "maps_changed", "averages_changed", "groups_changed"):
            session.refresh(read_run(run))
        assert [group.ids.tolist() for group in session.groups] == [
            group.ids.tolist() for group in sorted(groups, key=lambda group: group.name)
        ]

    def test_a_state_of_another_run_is_left_alone(self, session, run, tmp_path):
        """It was read while the user opened another one."""
        other = Run.open(shutil.copytree(run.path, tmp_path / "other"))
        other.save_codes(replace(other.codes(), fingerprint="other"))
        before = session.codes
        with tells(session):
            session.refresh(read_run(other))
        assert session.codes is before

    def test_so_is_any_where_no_run_is_shown(self, run):
        session = Session()
        with tells(session):
            session.refresh(read_run(run))
        assert session.is_new

    def test_averages_are_kept_and_those_just_made_win(self, session):
        with tells(session, "averages_changed"):
            session.keep_average("auto/0", "new")
        with tells(session, "averages_changed"):
            session.keep_averages({"auto/0": "old", "auto/1": "old"})
        assert session.averages == {"auto/0": "new", "auto/1": "old"}


class TestRows:
    """Everything is aligned by ids, in whatever order they come."""

    IDS = np.array([40, 7, 19, 3])

    @pytest.fixture
    def shown(self, run: Run) -> Session:
        """A session of four particles whose ids are neither dense nor in order."""
        rng = np.random.default_rng(0)
        codes = Codes(self.IDS, rng.random((4, 2), np.float32), rng.random((4, 12), np.float32), None, 1, "abc")
        particles = ParticleSet(run.path, self.IDS)
        session = Session()
        session.set_run(RunState(run, particles, codes, {}, (), "auto", (), None, "finished", None))
        return session

    def take(self, session: Session, embedding: Embedding, **more: Any) -> None:
        assert session.run is not None
        assert session.particles is not None
        maps = {(embedding.space, embedding.method): embedding}
        before = RunState(
            session.run, session.particles, session.codes, maps, (), "auto", (), None, "finished", None
        )  # fmt: skip
        session.refresh(replace(before, **more))

    def test_a_map_in_another_order(self, shown, run):
        self.take(shown, mapped(run, [3, 19, 40, 7]))
        found = shown.coordinates("content", "pca")
        np.testing.assert_array_equal(found, np.stack([self.IDS, -self.IDS], 1))

    def test_particles_without_a_place_have_none_and_strangers_are_left_out(self, shown, run):
        self.take(shown, mapped(run, [7, 8, 2, 100]))
        found = shown.coordinates("content", "pca")
        assert found is not None
        assert found.shape == (4, 2)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found[1], [7, -7])
        assert np.isnan(found[[0, 2, 3]]).all()

    def test_no_map_is_none(self, shown, run):
        self.take(shown, mapped(run, self.IDS))
        assert shown.coordinates("content", "umap") is None
        assert shown.coordinates("transform", "pca") is None

    def test_a_map_is_stale_when_it_is_of_other_codes(self, shown, run):
        self.take(shown, mapped(run, self.IDS, fingerprint="abc"))
        assert not shown.is_stale("content", "pca")
        self.take(shown, mapped(run, self.IDS, fingerprint="earlier"))
        assert shown.is_stale("content", "pca")
        assert not shown.is_stale("content", "umap"), "a map that is not there is not stale"

    def test_one_of_invariants_never_is(self, session):
        assert session.coordinates("invariants", "pca") is not None
        assert not session.is_stale("invariants", "pca")

    def test_labels_are_of_the_group_a_particle_is_in(self, shown, run):
        groups = (Selection("auto/0", np.array([3, 40])), Selection("auto/1", np.array([19, 99])))
        self.take(shown, mapped(run, self.IDS), groups=groups)
        np.testing.assert_array_equal(shown.labels(), [0, -1, 1, 0])

    def test_selected_is_a_mask_in_the_runs_order(self, shown):
        assert not shown.selected.any()
        shown.select(np.array([3, 7, 100]), {})
        np.testing.assert_array_equal(shown.selected, [False, True, False, True])

    def test_before_any_run_there_are_no_rows(self):
        session = Session()
        assert (len(session.labels()), len(session.selected)) == (0, 0)
        assert session.coordinates("content", "pca") is None
        assert session.fingerprint is None


LASSO = {"tool": "lasso", "polygon": [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]}


class TestSelecting:
    def test_a_new_one_says_how_it_was_drawn(self, session):
        with tells(session, "selection_changed"):
            session.select(np.array([5, 2, 5]), LASSO)
        assert session.selection.name == "drawn/0"
        assert session.selection.ids.tolist() == [2, 5]
        assert session.selection.how == LASSO

    @pytest.mark.parametrize(
        ("combine", "expected"), [("new", [4, 9]), ("add", [2, 4, 5, 9]), ("remove", [2, 5]), ("intersect", [4])]
    )
    def test_each_way_to_combine(self, session, combine, expected):
        session.select(np.array([2, 4, 5]), {"tool": "lasso"})
        with tells(session, "selection_changed"):
            session.select(np.array([4, 9]), {"tool": "polygon"}, combine)
        assert session.selection.ids.tolist() == expected
        assert session.selection.name == "drawn/0"
        how = session.selection.how
        if combine == "new":
            assert how == {"tool": "polygon"}
        else:
            assert how == {"steps": [{"combine": "new", "tool": "lasso"}, {"combine": combine, "tool": "polygon"}]}

    def test_many_strokes_are_a_list_of_steps(self, session):
        for k in range(300):
            session.select(np.array([k % 30]), {"tool": "brush", "k": k}, "add")
        steps = session.selection.how["steps"]
        assert [step["k"] for step in steps] == list(range(300))
        assert [step["combine"] for step in steps] == ["new"] + ["add"] * 299

    @pytest.mark.parametrize(("combine", "expected"), [("add", [4, 9]), ("remove", []), ("intersect", [])])
    def test_with_nothing_selected_only_adding_selects(self, session, combine, expected):
        session.select(np.array([4, 9]), {}, combine)
        assert session.selection.ids.tolist() == expected
        assert session.selected.sum() == len(expected)

    def test_what_is_drawn_on_a_saved_one_says_so_and_leaves_it(self, session):
        saved = Selection("mine/0", np.arange(5), {"cluster": "gmm"})
        with tells(session, "selection_changed"):
            session.choose(saved)
        assert session.selection is saved
        session.select(np.array([3]), LASSO, "remove")
        assert session.selection.how == {
            "steps": [{"combine": "new", "cluster": "gmm"}, {"combine": "remove", **LASSO}]
        }
        assert saved.ids.tolist() == [0, 1, 2, 3, 4]

    def test_none_can_be_chosen_and_taken_back(self, session):
        session.select(np.arange(3), {})
        session.choose(None)
        assert session.selection is None
        assert not session.selected.any()
        with tells(session, "selection_changed"):
            session.undo()
        assert session.selected.sum() == 3
        with tells(session, "selection_changed"):
            session.redo()
        assert session.selection is None

    def test_it_can_be_saved_and_shown_again(self, session, run):
        session.select(np.arange(3), LASSO)
        session.select(np.arange(5), LASSO, "add")
        run.save_selections("drawn", [session.selection])
        again = Session()
        again.set_run(read_run(run))
        assert again.selection.ids.tolist() == session.selection.ids.tolist()
        assert again.selection.how == json.loads(json.dumps(session.selection.how))

    def test_ids_of_particles_that_this_run_lacks_stay_with_it(self, session):
        session.select(np.array([29, 30, 1000]), {})
        assert session.selected.sum() == 1
        assert session.selection.ids.tolist() == [29, 30, 1000]


IDS = st.lists(st.integers(0, 11), max_size=8).map(lambda ids: np.array(ids, dtype=np.int64))


class Algebra(RuleBasedStateMachine):
    """Whatever is drawn, undone and redone, in any order, is what Python's sets and a list of them say."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.session.ids = np.arange(11, -1, -1)
        self.steps: list[set[int]] = [set()]
        self.at = 0
        self.told = self.expected = 0
        self.session.selection_changed.connect(self.hear)

    def hear(self) -> None:
        self.told += 1

    def step(self, ids: set[int]) -> None:
        self.steps = [*self.steps[: self.at + 1], ids]
        self.at += 1
        self.expected += 1

    @rule(ids=IDS, combine=st.sampled_from(["new", "add", "remove", "intersect"]))
    def select(self, ids: np.ndarray, combine: str) -> None:
        self.session.select(ids, {"tool": "lasso"}, combine)
        before, drawn = self.steps[self.at], set(ids.tolist())
        self.step({"new": drawn, "add": before | drawn, "remove": before - drawn, "intersect": before & drawn}[combine])

    @rule(ids=IDS)
    def choose(self, ids: np.ndarray) -> None:
        self.session.choose(Selection("A/0", ids))
        self.step(set(ids.tolist()))

    @rule()
    def choose_none(self) -> None:
        self.session.choose(None)
        self.step(set())

    @rule()
    def undo(self) -> None:
        self.session.undo()
        self.at = max(self.at - 1, 0)
        self.expected += 1

    @rule()
    def redo(self) -> None:
        self.session.redo()
        self.at = min(self.at + 1, len(self.steps) - 1)
        self.expected += 1

    @invariant()
    def it_is_the_set(self) -> None:
        selection = self.session.selection
        assert (set() if selection is None else set(selection.ids.tolist())) == self.steps[self.at]
        np.testing.assert_array_equal(self.session.selected, [i in self.steps[self.at] for i in range(11, -1, -1)])

    @invariant()
    def every_step_is_told_once(self) -> None:
        assert self.told == self.expected

    @invariant()
    def the_history_knows_its_ends(self) -> None:
        assert self.session.history.can_undo == (self.at > 0)
        assert self.session.history.can_redo == (self.at < len(self.steps) - 1)


TestAlgebra = Algebra.TestCase
TestAlgebra.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
