"""Work off the GUI thread: a function, or a generator that is followed; every exception comes back and is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


class JobFailedError(Exception):
    """A RuntimeError of a job; napari's workers take such errors for their own and drop them."""


def in_thread(
    function: Callable[[], Any],
    *,
    done: Callable[[Any], None],
    failed: Callable[[BaseException], None],
) -> Any:
    """Run `function` in a thread, then `done` with its result, or `failed` with its exception, on the GUI thread."""

    def job() -> Any:
        try:
            return function()
        except RuntimeError as error:
            raise JobFailedError(str(error)) from error

    worker: Any = create_worker(job, _start_thread=False, _ignore_errors=True)
    worker.returned.connect(done)
    worker.errored.connect(failed)
    worker.start()
    return worker


def follow(
    make: Callable[[], Iterator[Any]],
    *,
    told: Callable[[Any], None],
    done: Callable[[], None],
    failed: Callable[[BaseException], None],
) -> Any:
    """Run a generator in a thread and give what it yields to `told`, on the GUI thread, until it ends by itself.

    It is not stopped from outside: give it an event to look at, and let it return.
    """

    def job() -> Generator[Any]:
        try:
            yield from make()
        except RuntimeError as error:
            raise JobFailedError(str(error)) from error

    worker: Any = create_worker(job, _start_thread=False, _ignore_errors=True)
    worker.yielded.connect(told)
    worker.returned.connect(lambda _: done())
    worker.errored.connect(failed)
    worker.start()
    return worker


def sentence(error: BaseException) -> str:
    """Return what to tell the user of an exception."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}"
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"this is a mistake in napari-disentangle, not yours ({what}); please report it."
