"""Write a whole output folder, or nothing."""

from __future__ import annotations

import glob
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path


def spare(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse to replace a file, or a folder that holds a file, which is read from.

    Raises
    ------
    InputError
        `out` is one of `inputs`, lies in one that is a folder, or holds one.
    """
    place = out.resolve()
    for path in inputs:
        if path.exists() and (place == path.resolve() or (path.is_dir() and path.resolve() in place.parents)):
            raise InputError(f"{out} is read from, so it is not replaced; choose another place.")
        if path.exists() and place in path.resolve().parents:
            raise InputError(f"{out} holds {path.name}, which is read from; choose another place.")


@contextmanager
def new_folder(out: Path, *, marker: str, overwrite: bool = False) -> Generator[Path]:
    """Give a temporary folder beside `out` that takes its place when the block ends well.

    Whatever is raised inside, an interrupt too, removes the temporary folder, and the parents made for it, and leaves
    `out` as it was.

    Parameters
    ----------
    out : Path
        The folder to be made; its parents are made when needed. An empty folder counts as absent.
    marker : str
        A file that every folder of this kind holds. Without it a folder is never replaced, so that a slip of the
        hand with `overwrite` cannot remove somebody's home.
    overwrite : bool
        Replace an earlier folder of the same kind, once the new one is whole.

    Raises
    ------
    InputError
        `out` exists and may not be replaced, or its parent is a file or may not be written to.
    """
    check_new_folder(out, marker=marker, overwrite=overwrite)
    out = out.resolve()
    part = out.with_name(f".{out.name}.part-{os.getpid()}")
    for left in out.parent.glob(f".{glob.escape(out.name)}.part-*"):
        if left == part or _is_left_behind(left):
            shutil.rmtree(left, ignore_errors=True)  # by a process that was killed; in containers numbers come back
    absent = [p for p in out.parents if not p.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
    except OSError as error:
        raise InputError(f"{out} cannot be made ({error.strerror}); choose another folder.") from error
    try:
        yield part
        _move_into_place(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not out.exists():
            with suppress(OSError):
                for parent in absent:
                    parent.rmdir()


def _is_left_behind(part: Path) -> bool:
    """Return whether nobody here writes a temporary folder, nor anybody elsewhere for an hour."""
    pid = part.name.rpartition("-")[2]
    if os.name == "nt" or not pid.isdecimal() or time.time() - part.stat().st_mtime < 3600:  # nt: 0 is a Ctrl+C there
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def check_new_folder(out: Path, *, marker: str, overwrite: bool = False) -> None:
    """Raise InputError where `new_folder` would, before any work is done. Parameters as there."""
    parent = next(p for p in out.absolute().parents if p.exists())
    if not parent.is_dir():
        raise InputError(f"{out} cannot be made because {parent} is a file; choose another folder.")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{out} cannot be made because {parent} may not be written to; choose another folder.")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; give a folder that does not exist yet.")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise InputError(f"{out} exists already; choose another folder, or replace it (--overwrite).")
    if not (out / marker).is_file():
        raise InputError(
            f"{out} has no {marker}, so it holds something else and is not overwritten; choose another folder."
        )


def _move_into_place(part: Path, out: Path) -> None:
    """Rename `part` to `out`; a folder cannot be replaced in one step, so the old one steps aside first."""
    if not out.exists():
        part.rename(out)
        return
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    out.rename(old)
    try:
        part.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
