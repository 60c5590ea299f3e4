"""What a command shows while it works: a bar on a terminal, a line now and then elsewhere; always on standard error."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import FrameType

    from napari_disentangle.run import Run
    from napari_disentangle.training import Progress


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object to standard output. NaN and infinity, which JSON does not know, are refused."""
    print(json.dumps(value, indent=1, allow_nan=False))


@contextmanager
def bar(what: str) -> Generator[Callable[..., None]]:
    """Show how much of `what` is done; gives ``advance(done, total, what)``, the last if another thing is done now.

    Silent where standard error is no terminal.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as shown:
        task = shown.add_task(what, total=None)

        def advance(done: int, total: int, now: str = what) -> None:
            shown.update(task, completed=done, total=total, description=now)

        yield advance


@contextmanager
def stages() -> Generator[Callable[[str, float], None]]:
    """Show which stage of a longer piece of work is on and how far all is; gives ``tell(stage, fraction)``."""
    with bar("working") as advance:
        yield lambda stage, done: advance(round(100 * done), 100, stage)


def tell(notes: Iterable[str]) -> None:
    """Print notes, a line each."""
    for note in notes:
        print(note, file=sys.stderr)


def follow(run: Run, training: Iterable[Progress]) -> None:
    """Train to the end, and show how it goes.

    An interrupt (Ctrl-C, or a batch system's SIGTERM) asks for a clean stop, which keeps the model; a second one ends
    at once.

    Raises
    ------
    KeyboardInterrupt
        After a clean stop that an interrupt asked for.
    """
    interrupted = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        run.ask_to_stop()
        tell(["stopping after this step; the model is kept (interrupt again to end at once)"])

    with _handling(stop), bar("training") as advance:
        device = ""
        for step in training:
            if step.device != device:
                device = step.device
                tell([f"training {device}"])
            advance(step.step, step.steps, f"epoch {step.epoch} of {step.epochs}")
            if step.message:
                tell([_line(step)])
    if interrupted:
        raise KeyboardInterrupt


def _line(step: Progress) -> str:
    parts = [step.message, *(f"{name} {value:.4g}" for name, value in step.losses.items())]
    if step.losses and step.particles_per_second:
        parts.append(f"{step.particles_per_second:.0f} particles/s")
    if step.losses and step.eta_seconds:
        parts.append(f"{step.eta_seconds:.0f} s left")
    return ", ".join(parts)


@contextmanager
def _handling(stop: Callable[[int, FrameType | None], None]) -> Generator[None]:
    """Let `stop` answer SIGINT and SIGTERM; only the main thread may ask for that, and elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
