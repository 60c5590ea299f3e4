"""One row of a table: its data, its training within a limit of time, its scores and pictures, as one result."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

import numpy as np

from napari_disentangle.benchmark.confusion import confusion_of
from napari_disentangle.benchmark.datasets import SOURCES, dataset
from napari_disentangle.benchmark.pictures import draw_pictures
from napari_disentangle.benchmark.results import (
    FINISHED,
    Confusion,
    Result,
    append_result,
    commit,
    machine,
    now,
    read_results,
    stopped_at,
)
from napari_disentangle.benchmark.tables import THROUGHPUT, Row, Table
from napari_disentangle.benchmark.throughput import PARTICLES, measure
from napari_disentangle.errors import InputError, OutOfMemoryError
from napari_disentangle.models import model_info
from napari_disentangle.training.device import DeviceName, choose_device

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Mapping
    from pathlib import Path

    from napari_disentangle.benchmark.datasets import Dataset
    from napari_disentangle.metrics import Evaluation, Score, Truth
    from napari_disentangle.run import Run
    from napari_disentangle.training import Progress

RUNS, DATA, PICTURES = "runs", "data", "pictures"


@dataclass(frozen=True)
class Job:
    """One row with one seed, on data of one size."""

    table: Table
    row: Row
    seed: int
    size: int
    minutes: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        """As that of its result."""
        return self.table.name, self.row.name, self.size, self.seed

    @property
    def name(self) -> str:
        """How people and files call it: the size of its data is told where it is not the usual one."""
        size = "" if self.size == usual_size(self.table) else f"-{self.size}"
        return f"{self.table.name}/{self.row.name}-{self.seed}{size}"

    def made(self, result: Result) -> bool:
        """Return whether a result of this key was found with the settings that the row has."""
        if self.table.name == THROUGHPUT:
            return result.settings == self.row.settings
        return list(result.settings) == self.row.settings_for(result.particles, self.seed)


def planned(
    tables: Iterable[Table], out: Path, *, rows: Collection[str] = (), seeds: Collection[int] = (),
    sizes: Mapping[str, int] | None = None, minutes: float | None = None, again: bool = False,
) -> list[Job]:  # fmt: skip
    """Return what is to be run: the jobs whose results are not there yet, or were found with other settings.

    Parameters
    ----------
    tables : iterable of Table
    out : Path
        Folder of the results.
    rows : collection of str
        Names of rows; empty for all.
    seeds : collection of int
        Empty for each row's own.
    sizes : data set -> size, optional
        For data sets of another size than their own.
    minutes : float, optional
        Limit of each row; default the row's own.
    again : bool
        Also those whose results are there.

    Raises
    ------
    InputError
        A row is in none of the tables, a data set is not known, or the results cannot be read.
    """
    tables, sizes = list(tables), dict(sizes or {})
    known = {row.name for table in tables for row in table.rows}
    for name in rows:
        if name not in known:
            raise InputError(f'There is no row "{name}" in these tables; choose one of {", ".join(sorted(known))}.')
    for name, size in sizes.items():
        if name not in SOURCES:
            raise InputError(f'There is no data set "{name}"; choose one of {", ".join(SOURCES)}.')
        if size < 1:
            raise InputError(f"The size of {name} is {size}; give 1 or more.")
    done = {} if again else {result.key: result for result in read_results(out)}
    jobs: list[Job] = []
    for table in tables:
        own = usual_size(table)
        for row in table.rows:
            if rows and row.name not in rows:
                continue
            for seed in seeds or row.seeds:
                limit = row.minutes if minutes is None else minutes
                jobs.append(Job(table, row, seed, sizes.get(table.source, own), limit))
    return [job for job in jobs if job.key not in done or not job.made(done[job.key])]


def usual_size(table: Table) -> int:
    """Return how many particles, or how many of each kind, a table has unless told otherwise."""
    return SOURCES[table.source].size if table.source else PARTICLES


def run_job(
    job: Job, data: Path, out: Path, *, device: DeviceName = "auto", watch: Callable[[Run, Iterable[Progress]], None] | None = None
) -> Result:  # fmt: skip
    """Run one row anew, append its result to OUT/results.jsonl and return it.

    Nothing is appended for a row that is interrupted.

    Parameters
    ----------
    job : Job
    data : Path
        Folder of what data sets are made from.
    out : Path
        Data sets, run folders, pictures and results are kept here.
    device : "auto", "cpu", "cuda" or "mps"
    watch : callable, optional
        Given the run and its training, which it has to exhaust; shows how it goes.

    Raises
    ------
    InputError
        The data are missing or broken, the device is not there, memory runs out (`OutOfMemoryError`), or another
        process works on the same row.
    """
    commit()
    if job.table.name == THROUGHPUT:
        result = _throughput(job, device)
    else:
        result = _training(job, data, out, device, watch or _exhaust)
    append_result(out, result)
    return result


def _throughput(job: Job, device: DeviceName) -> Result:
    name, words = choose_device(device)
    began = time.monotonic()
    size = int(job.row.name.rpartition("-")[2])
    rates = measure(job.row.model, job.row.settings, size, particles=job.size, seed=job.seed, device=name)
    return Result(
        table=job.table.name, row=job.row.name, seed=job.seed, size=job.size, model=job.row.model, settings=job.row.settings,
        particles=job.size, epochs=0, seconds=round(time.monotonic() - began, 1), particles_per_second={str(size): rates},
        commit=commit(), machine=machine(words), date=now(),
    )  # fmt: skip


def _training(
    job: Job, data: Path, out: Path, device: DeviceName, watch: Callable[[Run, Iterable[Progress]], None]
) -> Result:
    from napari_disentangle.io import read_particles
    from napari_disentangle.metrics import read_truth
    from napari_disentangle.training import fit, prepare

    name, words = choose_device(device)
    made = dataset(job.table.source, data, out / DATA, size=job.size)
    truth = None if made.truth is None else read_truth(made.truth)
    count = len(read_particles(made.particles, **made.reading))
    settings = job.row.settings_for(count, job.seed)
    run = prepare(made.particles, out / RUNS / job.name, settings=settings, reading=made.reading, overwrite=True)
    clock = _Clock(job.minutes * 60)
    followed: list[tuple[int, float, float]] = []
    ended = FINISHED
    try:
        with closing(
            clock.limited(run, fit(run, device=device), truth if job.table.followed else None, followed)
        ) as told:
            watch(run, told)
    except InputError as error:
        if run.state() != "failed" or isinstance(error, OutOfMemoryError):  # it never began, or may end well elsewhere
            raise
        ended = str(error).removeprefix(f"{run.path}: ")
    seconds = clock.seconds()
    trained = run.checkpoint() is not None and ended == FINISHED
    epochs = run.codes().epoch if trained else 0
    if run.state() == "stopped":
        if not clock.over:
            raise InputError(f"{run.path} was stopped by somebody; the row is run anew when it is asked for again.")
        ended = stopped_at(job.minutes, epochs)
    scores, informative, confusion, pictures = None, {}, (), ()
    if trained:
        scores, informative = _scored(run, truth, made, name)
        if truth is not None and job.table.neighbours:
            confusion = _confusions(run, truth, job.table.neighbours)
        pictures = draw_pictures(run, truth, out / PICTURES, job.name.replace("/", "-"))
    return Result(
        table=job.table.name, row=job.row.name, seed=job.seed, size=job.size, model=job.row.model, settings=tuple(settings),
        particles=count, epochs=epochs, seconds=round(seconds, 1), particles_per_second=_rates(run), ended=ended,
        scores=scores, informativeness=informative, followed=tuple(followed), confusion=confusion, pictures=pictures,
        commit=commit(), machine=machine(words), date=now(),
    )  # fmt: skip


def _scored(run: Run, truth: Truth | None, made: Dataset, device: str) -> tuple[Evaluation | None, dict[str, Score]]:
    from napari_disentangle.metrics import informativeness
    from napari_disentangle.stages import evaluate_run
    from napari_disentangle.training.informativeness import explained_variance

    if truth is not None:
        scores = evaluate_run(run, truth, symmetry=made.symmetry, device=device)
        return scores, scores.informativeness
    if not model_info(run.recipe.model.name).decodes:
        return None, {}
    explained = explained_variance(run, device=device)
    return None, {name: informativeness(explained.own, value) for name, value in explained.permuted.items()}


def _confusions(run: Run, truth: Truth, identity: str) -> tuple[Confusion, ...]:
    codes = run.codes()
    _, rows, at = np.intersect1d(codes.ids, truth.ids, assume_unique=True, return_indices=True)
    chosen = truth.identity[at] == identity
    rows, state = rows[chosen], truth.state[at[chosen]]
    found = (
        confusion_of(codes.content[rows], state, identity, "content"),
        confusion_of(codes.transform[rows], state, identity, "transformation"),
    )
    return tuple(one for one in found if one is not None)


def _rates(run: Run) -> dict[str, tuple[float, ...]]:
    """Return the particles per second of each epoch, by voxels per edge."""
    found: dict[str, list[float]] = {}
    for event in run.events():
        if event["event"] == "epoch":
            found.setdefault(str(event["size"]), []).append(float(event["particles_per_second"]))
    return {size: tuple(rates) for size, rates in found.items()}


class _Clock:
    """Counts the time of a training, and none of what is measured in between."""

    def __init__(self, limit: float) -> None:
        self._limit, self._began, self._left_out = limit, time.monotonic(), 0.0
        self.over = False

    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.monotonic() - self._began - self._left_out

    def limited(
        self, run: Run, training: Iterable[Progress], truth: Truth | None, followed: list[tuple[int, float, float]]
    ) -> Generator[Progress]:
        """Pass a training on, and ask it to stop when its time is over; with a truth, follow P(c|z)."""
        ended, known = Event(), None

        def wait() -> None:  # in a thread, as a search of poses takes long between two steps
            while not ended.wait(max(self._limit - self.seconds(), 0.01)):
                if self.seconds() >= self._limit:
                    self.over = True
                    run.ask_to_stop()
                    return

        watch = Thread(target=wait, name="limit of time", daemon=True)
        watch.start()
        try:
            for progress in training:
                if truth is not None:
                    known = self._follow(run, truth, known, followed)
                yield progress
        finally:
            ended.set()
            watch.join()

    def _follow(
        self, run: Run, truth: Truth, known: float | None, followed: list[tuple[int, float, float]]
    ) -> float | None:
        from napari_disentangle.metrics import knn_accuracy

        path = run.path / "codes.npz"
        written = path.stat().st_mtime if path.is_file() else None
        if written is None or written == known:
            return known
        seconds, began = self.seconds(), time.monotonic()
        codes = run.codes()
        _, rows, at = np.intersect1d(codes.ids, truth.ids, assume_unique=True, return_indices=True)
        score = knn_accuracy(codes.content[rows], truth.identity[at]).value
        if score is not None:
            followed.append((codes.epoch, round(seconds, 1), score))
        self._left_out += time.monotonic() - began
        return written


def _exhaust(_run: Run, training: Iterable[Progress]) -> None:
    for _ in training:
        pass
