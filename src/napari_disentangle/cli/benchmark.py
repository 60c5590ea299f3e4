"""Commands of the benchmark: run, list, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from napari_disentangle.cli import progress
from napari_disentangle.cli.arguments import Device, Json
from napari_disentangle.errors import InputError, OutOfMemoryError

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="NAME")]


def run(
    data: Path,
    out: Path,
    /,
    *,
    table: Names = (),
    row: Names = (),
    seeds: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (),
    size: Annotated[tuple[str, ...], Parameter(consume_multiple=True, metavar="DATASET=N")] = (),
    minutes: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    again: bool = False,
    device: Device = "auto",
) -> None:
    """Run the tables of the two papers row by row; rows that have results are not run again.

    Parameters
    ----------
    data
        Folder of what the data sets are made from: mnist, linemod5, maps and real.
    out
        Folder of results, data sets, runs and pictures; may be there already.
    table
        Only these tables; several with spaces between.
    row
        Only these rows; several with spaces between.
    seeds
        Seeds of training; without them, each row's own.
    size
        Make a data set of this size, such as trio=1000; list says what is counted.
    minutes
        Stop the training of a row after so long; without it 10, and 120 for the models of the two papers.
    again
        Also run rows that have results; the new ones count.
    """
    from napari_disentangle.benchmark import TABLES, planned, run_job, table_named
    from napari_disentangle.training.device import choose_device

    choose_device(device)
    tables = [table_named(name) for name in table] or list(TABLES.values())
    jobs = planned(tables, out, rows=row, seeds=seeds, sizes=_sizes(size), minutes=minutes, again=again)
    if not jobs:
        progress.tell(["every row has its result already"])
    lacking: list[str] = []
    for k, job in enumerate(jobs, 1):
        progress.tell([f"{job.name}, {k} of {len(jobs)}"])
        try:
            result = run_job(job, data, out, device=device, watch=progress.follow)
        except OutOfMemoryError as error:  # the rows behind it may need less
            lacking.append(job.name)
            progress.tell([str(error)])
            continue
        scores = result.scores
        found = (
            ""
            if scores is None
            else f", P(c|z) {scores.model.p}, D(c|c) {scores.model.d_cc}, D(c|z) {scores.model.d_cz}"
        )
        print(f"{job.name}: {result.ended}, {result.seconds:.0f} s{found}", flush=True)
    if lacking:
        raise InputError(f"Memory ran out for {', '.join(lacking)}, which have no result; run them again with more.")


def list_(*, json: Json = False) -> None:
    """List the tables, their data and their rows."""
    from napari_disentangle.benchmark import TABLES
    from napari_disentangle.benchmark.datasets import SOURCES

    if json:
        tables = [
            {
                "name": one.name, "title": one.title, "data": one.source or None,
                "rows": [{"name": row.name, "model": row.model, "seeds": row.seeds, "minutes": row.minutes} for row in one.rows],
            }
            for one in TABLES.values()
        ]  # fmt: skip
        progress.print_json({"schema_version": 1, "tables": tables})
        return
    for one in TABLES.values():
        print(f"{one.name}  {one.title}")
        if one.source:
            source = SOURCES[one.source]
            print(f"    {source.about} --size {one.source}=N counts {source.counts}, {source.size} unless told.")
        print(
            f"    {', '.join(f'{row.name} ({len(row.seeds)})' if len(row.seeds) > 1 else row.name for row in one.rows)}"
        )


def tables(out: Path, /, *, docs: Path | None = None) -> None:
    """Write the tables of all results as Markdown, the papers' figures beside ours, with their pictures.

    Parameters
    ----------
    out
        Folder that benchmark run wrote.
    docs
        Folder to write; without it OUT/tables. Files of the same names are replaced.
    """
    from napari_disentangle.benchmark import write_tables

    for path in write_tables(out, docs or out / "tables"):
        print(path)


def _sizes(words: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        name, _, count = word.partition("=")
        if not count.isdecimal():
            raise InputError(f'--size "{word}" is no size; write DATASET=N, such as trio=1000.')
        found[name] = int(count)
    return found
