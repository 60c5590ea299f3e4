"""What can wait a moment, one piece in each turn of the event loop, so that the window answers in between."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer

from napari_disentangle.gui.scene import reported

if TYPE_CHECKING:
    from collections.abc import Callable

REST = 10
"""Milliseconds before each piece: with none, the screen would not answer in between, and nothing would be painted."""


class Turns(QObject):
    """A queue of pieces of work, each for a widget; those of a widget that has gone are left out."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: deque[tuple[QObject, Callable[[], object]]] = deque()
        self._timer = QTimer(self)
        self._timer.setInterval(REST)
        self._timer.timeout.connect(self._take)

    def __len__(self) -> int:
        """How many pieces wait."""
        return len(self._waiting)

    def add(self, owner: QObject, *pieces: Callable[[], object]) -> None:
        """Do these pieces for a widget, after all that wait already; once, where the same piece waits."""
        self._waiting.extend((owner, piece) for piece in pieces if (owner, piece) not in self._waiting)
        if self._waiting:
            self._timer.start()

    def soon(self, owner: QObject, piece: Callable[[], object]) -> Callable[[], None]:
        """Return what has a piece done for a widget in a turn of its own, however often it is called before."""
        return lambda: self.add(owner, piece)

    def drop(self, owner: QObject | None = None) -> None:
        """Leave out what waits for a widget, or for any."""
        self._waiting = deque(one for one in self._waiting if owner is not None and one[0] is not owner)

    def _take(self) -> None:
        """Do the next piece for a widget that is there."""
        while self._waiting:
            owner, piece = self._waiting.popleft()
            if isalive(owner):
                with reported():
                    piece()
                break
        if not self._waiting:
            self._timer.stop()
