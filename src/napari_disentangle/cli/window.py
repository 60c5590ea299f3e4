"""The command that opens the window: open."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from napari_disentangle.errors import InputError

BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def open_window(path: Path | None = None, /) -> None:
    """Open napari with all panels and, if it is given, a run or particles in them.

    Parameters
    ----------
    path
        A run folder, or anything that "info" understands.
    """
    if path is not None and not path.exists():
        raise InputError(f"{path} does not exist; check the name.")
    if not any(find_spec(binding) for binding in BINDINGS):
        raise InputError(
            'There is no Qt here, which napari draws with; install it, with pip install "napari-disentangle[all]".'
        )
    from napari_disentangle.gui.window import show

    show(path)
