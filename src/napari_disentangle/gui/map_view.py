"""One map with its name and the choice of what it shows; it says when that is stale or not there yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_disentangle.gui.forms import Links, button, offer
from napari_disentangle.gui.scatter import MapCanvas
from napari_disentangle.gui.theme import WARNING
from napari_disentangle.learnt import view_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_disentangle.gui.workbench import Workbench

TITLES = {
    "umap": "UMAP of the code",
    "pca": "PCA of the code",
    "invariants": "invariants (no training)",
    "views": "view sphere",
}
TIPS = {
    "umap": "UMAP: neighbours in the code stay neighbours; distances between groups mean little",
    "pca": "The two directions in which codes differ most",
    "invariants": "PCA of the power in Fourier shells, which no rotation changes and no training makes",
    "views": "From where each particle is seen, in the model's own frame: an equal-area map of the sphere",
}

AFTER = {"content": 0, "transform": 15}
"""Milliseconds that drawing waits, so that content is drawn in a turn of the event loop of its own."""


class MapView(QWidget):
    """A `MapCanvas` with a heading.

    Parameters
    ----------
    bench : Workbench
    space : {"content", "transform"}
    kinds : sequence of str
        What can be shown: keys of `TITLES`, the best first.
    """

    def __init__(self, bench: Workbench, space: str, kinds: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench, self._space = bench, space
        self.coordinates: NDArray[np.float32] | None = None
        """(n, 2) of what is shown, NaN where a particle has no place; None where nothing is."""
        self._shown = ("", "")
        self.canvas = MapCanvas(after=AFTER[space])
        self._warmed = False
        self.kind = QComboBox()
        for kind in kinds:
            self.kind.addItem(TITLES[kind], kind)
            offer(self.kind, self.kind.count() - 1, offered=True, tooltip=TIPS[kind])
        self.kind.setToolTip("What this map shows")
        self.note = QLabel("")
        self.note.setStyleSheet(f"QLabel {{ color: {WARNING}; }}")
        self.update_button = button("Update", "Make this map anew from the present codes", self._make)
        name = {"content": "Content", "transform": "Transformation"}[space]
        title = QLabel(f"<b>{name}</b>")
        about = {
            "content": "what a particle is",
            "transform": "how it lies: its rotation and shift, or its conformation",
        }
        title.setToolTip(f"{name}: {about[space]}")
        head = QHBoxLayout()
        head.setContentsMargins(2, 0, 2, 0)
        for part in (title, self.kind):
            head.addWidget(part)
        head.addWidget(self.note, 1)
        head.addWidget(self.update_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addWidget(self.canvas, 1)
        self.canvas.hovered.connect(self._name_particle)
        self.kind.activated.connect(lambda _: self._on_kind())
        self._links = Links(self)
        self._links.add(bench.session.run_changed, self._on_run)
        self._links.add(bench.session.maps_changed, self.show_map)
        self.show_map()

    @property
    def described(self) -> str:
        """What is shown, for the record of a selection."""
        return f"{self._space} ({self._shown[0]})"

    def _name_particle(self, row: int) -> None:
        session = self._bench.session
        named = ""
        if 0 <= row < len(session.ids):
            ids = session.ids[row : row + 1]
            group = next((f", group {k + 1}" for k, one in enumerate(session.groups) if np.isin(ids, one.ids)[0]), "")
            named = f"particle {ids[0]}{group}; a click shows it"
        self.canvas.native.setToolTip(named)

    def _on_run(self) -> None:
        self.kind.setCurrentIndex(0)
        self._shown = ("", "")

    def _offer_kinds(self) -> None:
        """Offer the view sphere only where there are poses, and no map of a transformation that there is not."""
        codes, views = self._bench.session.codes, self.kind.findData("views")
        self.kind.setEnabled(not self._no_code)
        if views < 0:
            return
        posed = codes is None or codes.pose is not None
        offer(self.kind, views, offered=posed, tooltip=TIPS["views"] if posed else "This model finds no poses")
        if not posed and self.kind.currentIndex() == views:
            self.kind.setCurrentIndex(self.kind.findData("umap"))

    @property
    def _no_code(self) -> str:
        """Why there is nothing to map; empty where there is, or may be."""
        return self._bench.no_transformation if self._space == "transform" else ""

    def _on_kind(self) -> None:
        kind = self.kind.currentData()
        session = self._bench.session
        if kind in ("umap", "pca") and not session.is_new and session.coordinates(self._space, kind) is None:
            self._make()
        self.show_map()

    def _make(self) -> None:
        kind = self.kind.currentData()
        if kind in ("umap", "pca"):
            self._bench.results.map(self._space, kind)

    def show_map(self) -> None:
        """Show what was chosen or, while it is not there, the next best, and say so."""
        session = self._bench.session
        self.note.setText("")
        self.update_button.setVisible(False)
        self._offer_kinds()
        if session.run is None or self._no_code:
            self.coordinates = None
            self.canvas.set_points(None)
            self.canvas.set_message(
                self._no_code or "The map of all particles forms here, seconds after training is started."
            )
            return
        wanted = self.kind.currentData()
        found, kind, note = self._find(wanted)
        self.note.setText(note)
        training = self._bench.trainer.active
        self.update_button.setVisible(wanted in ("umap", "pca") and bool(note) and not session.is_new and not training)
        if found is None:
            self.coordinates = None
            self.canvas.set_points(None)
            makeable = not session.is_new and wanted in ("umap", "pca")
            self.update_button.setVisible(makeable and not training)
            self.canvas.set_message(
                "Not made yet; Update makes it." if makeable else "After the first epochs of training."
            )
            return
        kept = self.coordinates is not None and self._shown == (kind, str(session.run.path))
        self.canvas.set_message("")
        same = kept and self.coordinates is not None and np.array_equal(found, self.coordinates, equal_nan=True)
        self._shown = (kind, str(session.run.path))
        if not self._warmed:
            self._warmed = True
            self._bench.turns.add(self, self.canvas.warm)
        if not same:
            self.coordinates = found
            self.canvas.set_points(found, keep_view=kept)
            self.canvas.set_selected(session.selected)

    def _find(self, wanted: str) -> tuple[NDArray[np.float32] | None, str, str]:
        """Return coordinates (n, 2), what they are, and what to say about them."""
        session = self._bench.session
        if wanted == "invariants":
            return session.coordinates("invariants", "pca"), wanted, ""
        if wanted == "views":
            codes = session.codes
            if codes is None or codes.pose is None:
                return None, wanted, ""
            placed = np.full((len(session.ids), 2), np.nan, np.float32)
            order = np.argsort(codes.ids)
            placed[session.rows_of(codes.ids)] = view_map(codes.pose.rotations[order])
            return placed, wanted, ""
        found = session.coordinates(self._space, wanted)
        if found is not None and not session.is_stale(self._space, wanted):
            return found, wanted, ""
        if self._space == "content" and wanted == "umap":
            simpler = session.coordinates("content", "pca")
            if simpler is not None and not session.is_stale("content", "pca"):
                return simpler, "pca", "PCA for now"
            if found is None and session.is_new:
                return session.coordinates("invariants", "pca"), "invariants", "invariants, until codes are there"
        return found, wanted, "" if found is None else "of an earlier training"

    def set_looks(self, colours: NDArray[np.float32], selected: NDArray[np.bool_]) -> None:
        """Colour the points (n, 4) and outline the selected (n,)."""
        if self.coordinates is not None and len(self.coordinates) == len(colours):
            self.canvas.set_colours(colours)
            self.canvas.set_selected(selected)

    def set_selected(self, selected: NDArray[np.bool_]) -> None:
        """Outline the selected (n,)."""
        if self.coordinates is not None and len(self.coordinates) == len(selected):
            self.canvas.set_selected(selected)

    def dispose(self) -> None:
        """Listen no more, and free what the canvas holds."""
        self._links.drop()
        self.canvas.close_canvas()
