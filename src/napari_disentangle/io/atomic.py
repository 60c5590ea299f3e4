"""Write a file whole, or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Generator[Path]:
    """Give a temporary path beside `path`; what was written there takes its place when the block ends well.

    Parameters
    ----------
    path : Path
        The file to be made; its parents are made when needed.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        `path` exists, is a folder, or its parent is a file or may not be written to.
    """
    check_new_file(path, overwrite=overwrite)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}); choose another place.") from error
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_new_file(path: Path, *, overwrite: bool = False) -> None:
    """Raise InputError where `new_file` would, before any work is done. Parameters as there."""
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
        raise InputError(f"{path} cannot be written because {parent} is a file, not a folder; choose another place.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file in it.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name, or replace it (--overwrite).")


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write `text` to `path` without translating its line ends, whole or not at all. Errors as `new_file`."""
    with new_file(path, overwrite=overwrite) as part:
        part.write_bytes(text.encode("utf-8", "surrogateescape"))


def read_text(path: Path) -> str:
    """Return the text of a file, whose bytes `write_text` would give back exactly.

    Raises
    ------
    InputError
        No such file, a folder, not a text file, or not readable.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file.")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the name.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if b"\0" in data:
        raise InputError(f"{path} is not a text file; give a STAR file or another particle list.")
    return data.decode("utf-8", "surrogateescape")
