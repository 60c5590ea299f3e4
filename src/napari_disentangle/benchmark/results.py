"""The results file: one line of JSON for every row that was run, appended whole."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_disentangle import __version__
from napari_disentangle.errors import InputError
from napari_disentangle.io.atomic import write_text
from napari_disentangle.metrics import Evaluation, Score

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = "results.jsonl"
FINISHED, STOPPED = "finished", "stopped"
"""How a training ends that leaves a model."""
_LIMIT = f"{STOPPED} by the limit of "


def stopped_at(minutes: float, epochs: int) -> str:
    """Return how a training ends at its limit of time, in the words that `Result.stopped_after` reads."""
    return f"{_LIMIT}{minutes:g} minutes after {epochs} epochs"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Stored):
    """What a row was run on."""

    cpu: str
    cores: Annotated[int, Field(description="That this process may use.")]
    threads: Annotated[int, Field(description="Of torch.")]
    torch: str
    device: Annotated[str, Field(description="In words.")]


class Confusion(_Stored):
    """States of one identity as logistic regression tells them from a code, held out."""

    identity: str
    code: Literal["content", "transformation"]
    states: tuple[str, ...]
    counts: Annotated[tuple[tuple[int, ...], ...], Field(description="Rows are true states, columns those told.")]

    @property
    def within_one(self) -> float:
        """Fraction of particles told to be in their state or in one beside it."""
        near = sum(c for i, row in enumerate(self.counts) for j, c in enumerate(row) if abs(i - j) <= 1)
        return near / max(1, sum(map(sum, self.counts)))


class Result(_Stored):
    """One row, run with one seed."""

    schema_version: Literal[1] = 1
    table: str
    row: str
    seed: int
    size: Annotated[int, Field(description="Of the data set; what it counts is said by the source.")]
    model: str
    settings: Annotated[tuple[str, ...], Field(description="Over the model's standard preset.")]
    particles: int
    epochs: Annotated[int, Field(description="Done.")]
    seconds: Annotated[float, Field(description="Of training, reading and pose search included.")]
    particles_per_second: Annotated[
        dict[str, tuple[float, ...]], Field(description="By voxels per edge: of each epoch or repeat.")
    ] = {}
    ended: Annotated[str, Field(description='"finished", or why it ended before.')] = FINISHED
    scores: Annotated[Evaluation | None, Field(description="Null without truth, or where training failed.")] = None
    informativeness: dict[str, Score] = {}
    followed: Annotated[
        tuple[tuple[int, float, float], ...], Field(description="Epoch, seconds of training, P(c|z).")
    ] = ()
    confusion: tuple[Confusion, ...] = ()
    pictures: Annotated[tuple[str, ...], Field(description="Files in OUT/pictures.")] = ()
    commit: Annotated[str | None, Field(description="Of the checkout; a + behind it: with changes. Null for none.")]
    version: str = __version__
    machine: Machine
    date: Annotated[str, Field(description="When it ended, UTC.")]

    @property
    def trained(self) -> bool:
        """Whether there is a model, of as many epochs as were asked for or fewer."""
        return self.ended == FINISHED or self.ended.startswith(STOPPED)

    @property
    def stopped_after(self) -> float | None:
        """Minutes after which the limit of time stopped it; None where it did not."""
        return float(self.ended.removeprefix(_LIMIT).split()[0]) if self.ended.startswith(_LIMIT) else None

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells it from others: a later result with the same key replaces it."""
        return self.table, self.row, self.size, self.seed

    @property
    def settings_but_seed(self) -> tuple[str, ...]:
        """What the results of a row have in common."""
        return tuple(setting for setting in self.settings if not setting.startswith("training.seed="))


RowResults = tuple[str, list[Result]]
"""Of one row and one size of data: its name, and a result for each seed, ascending."""


def read_results(out: Path) -> list[Result]:
    """Return the results in a folder, the newest of each key, in the order in which they were first run.

    A line that a crash has cut off is left out, so that its row is run again.

    Raises
    ------
    InputError
        It cannot be read, or a line is of a newer version or no result.
    """
    path = out / FILE
    if not path.is_file():
        return []
    found: dict[tuple[str, str, int, int], Result] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as results ({error}); give another folder, or remove it.") from error
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
        except ValueError:
            continue
        try:
            result = Result.model_validate(values)
        except ValidationError as error:
            raise InputError(
                f"{path}: line {number} is no result that this version knows; remove the line, and its row is run again."
            ) from error
        found[result.key] = result
    return list(found.values())


def append_result(out: Path, result: Result) -> None:
    """Append a result, whole, in one write; several processes may do so at once."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    text = _line(result)
    with path.open("ab") as file:
        cut = path.stat().st_size and not path.read_bytes().endswith(b"\n")
        file.write(("\n" if cut else "").encode() + text.encode())


def write_results(out: Path, results: Sequence[Result]) -> None:
    """Write results into a folder, instead of those that it has, without the paths of this machine."""
    write_text(out / FILE, "".join(_line(_portable(result)) for result in results), overwrite=True)


def _line(result: Result) -> str:
    return json.dumps(result.model_dump(mode="json"), allow_nan=False) + "\n"


def _portable(result: Result) -> Result:
    scores = result.scores
    if scores is None:
        return result
    truth = Path(*Path(scores.truth).parts[-3:]).as_posix()
    return result.model_copy(update={"scores": scores.model_copy(update={"truth": truth})})


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine(device: str) -> Machine:
    """Return what this process runs on; `device` in words."""
    import torch

    cpu = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        names = [
            line.partition(":")[2].strip() for line in listed.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return Machine(cpu=cpu, cores=cores, threads=torch.get_num_threads(), torch=str(torch.__version__), device=device)


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this package is run from, or None where it is not in one.

    As it was when it was first asked for: later commits are not of the code that was loaded.
    """
    folder = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    # an installed package may lie in a folder of somebody else's checkout
    if not git("ls-files", "../__init__.py"):
        return None
    found = git("rev-parse", "HEAD")
    return found and found + ("+" if git("status", "--porcelain", "--", "..") else "")
