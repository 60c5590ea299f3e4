"""Latent maps: content and transformation side by side, tools to select in them, groups, and the particles selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QSpinBox,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_disentangle.gui.export_dialog import ExportDialog
from napari_disentangle.gui.forms import Links, ProblemLine, button, offer
from napari_disentangle.gui.gallery import Gallery
from napari_disentangle.gui.map_view import MapView
from napari_disentangle.gui.results import how_shown
from napari_disentangle.gui.theme import WARNING, group_colour, rgba, rgba_of_values, theme_colours
from napari_disentangle.gui.volumes import Shown, VolumeRow, as_volume
from napari_disentangle.gui.worker import in_thread
from napari_disentangle.selection import CONTROL
from napari_disentangle.session import DRAWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_disentangle.gui.scatter import Stroke
    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.selection import Selection

TOOLS = {
    "pan": ("Move", "Drag moves the map, the wheel zooms, a click shows a particle (Esc)", "Esc"),
    "lasso": ("Lasso", "Draw a line around particles (L)", "L"),
    "polygon": ("Polygon", "Click corners; a double click or Enter closes it (P)", "P"),
    "rectangle": ("Rectangle", "Drag a rectangle over particles (R)", "R"),
    "brush": ("Brush", "Paint over particles; [ and ] change its size (B)", "B"),
}
COMBINE = {
    "new": ("New", "What is drawn becomes the selection"),
    "add": ("+", "What is drawn is added to the selection"),
    "remove": ("−", "What is drawn is taken out of the selection"),  # noqa: RUF001 (a minus sign)
    "intersect": ("&&", "Only what was selected and is drawn stays selected"),
}
COLOURS = ("group", "tomogram", "half-set", "defocus", "content 1", "content 2", "shift")


class MapsPanel(QWidget):
    """The fourth click: pick a group or draw around particles.

    Parameters
    ----------
    bench : Workbench
    """

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = bench
        self.problem = ProblemLine()
        self.content = MapView(bench, "content", ("umap", "pca", "invariants"))
        self.transform = MapView(bench, "transform", ("views", "umap", "pca"))
        self.views = (self.content, self.transform)
        self.gallery = Gallery(columns=6, side=52)
        self.gallery.set_message("draw around particles in a map: some of them show here")
        self.particle = VolumeRow()
        self.particle.set_message("click a point of a map")
        self.particle.set_mode("slices")
        self.side = QTabWidget()
        self.side.addTab(self.gallery, "selection")
        self.side.addTab(self.particle, "particle")
        self.count = QLabel("no run yet")
        self.colour = QComboBox()
        self.colour.addItems(COLOURS)
        self.colour.setToolTip("What the colours of points say; the selection is always an outline")
        self.groups_row = QWidget()
        self.saved = QComboBox()
        self.saved.setToolTip("Selections kept in the run folder")
        self.saved.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._pictured: NDArray[np.int64] = np.zeros(0, np.int64)
        self._build()
        for view in self.views:
            view.canvas.drawn.connect(lambda stroke, view=view: self._on_drawn(view, stroke))
            view.canvas.picked.connect(self._on_picked)
            view.canvas.cancelled.connect(lambda: self.choose_tool("pan"))
            self._shortcut("Return", self.ask_name, view)  # in a number field, Enter is the field's
        self.gallery.clicked.connect(self._on_pictured)
        session = bench.session
        self._links = Links(self)
        for signal, slot in (
            (session.run_changed, self._show_run),
            (session.maps_changed, self._show_groups),
            (session.groups_changed, self._show_groups),
            (session.selection_changed, self._show_selection),
            (bench.results.pictured, self._show_pictures),
            (bench.results.particle_shown, self._show_particle),
            (bench.problem, self._say_problem),
            (bench.viewer.events.theme, self._set_theme),
        ):
            self._links.add(signal, slot)
        self._set_theme()
        self._show_run()
        self._show_groups()
        self._show_selection()
        bench.results.picture_selection()
        self._say_problem("maps", bench.problems.get("maps", ""))

    # ---- layout ------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self._toolbar())
        layout.addWidget(self._groups_bar())
        layout.addWidget(self.problem)
        splitter = QSplitter(Qt.Orientation.Horizontal)
        for part in (*self.views, self.side):
            splitter.addWidget(part)
        splitter.setSizes([400, 400, 380])
        splitter.setChildrenCollapsible(False)
        layout.addWidget(splitter, 1)
        self.setMinimumHeight(240)

    def _toolbar(self) -> QWidget:
        bar = QWidget()
        layout = QHBoxLayout(bar)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self._tools = QButtonGroup(self)
        self.tools: dict[str, QPushButton] = {}
        for name, (title, about, key) in TOOLS.items():
            tool = self._toggle(title, about, self._tools, lambda name=name: self.choose_tool(name))
            self.tools[name] = tool
            layout.addWidget(tool)
            if key != "Esc":
                self._shortcut(key, lambda name=name: self.choose_tool(name))
        layout.addSpacing(10)
        self._combine = QButtonGroup(self)
        self.combine: dict[str, QPushButton] = {}
        for name, (title, about) in COMBINE.items():
            self.combine[name] = self._toggle(title, about, self._combine, lambda: None)
            layout.addWidget(self.combine[name])
        self.tools["pan"].setChecked(True)
        self.combine["new"].setChecked(True)
        layout.addSpacing(10)
        self.undo = button("Undo", "Take back the last selection (Ctrl+Z)", self._bench.session.undo)
        self.redo = button("Redo", "Select it again (Ctrl+Shift+Z)", self._bench.session.redo)
        self._shortcut("Ctrl+Z", self._bench.session.undo)
        self._shortcut("Ctrl+Shift+Z", self._bench.session.redo)
        self.invert = button("Invert", "Select all other particles instead", self._invert)
        self.clear = button("None", "Select nothing", lambda: self._bench.session.choose(None))
        self.name = button("Name it…", "Keep the selection under a name (Enter)", self.ask_name)
        self.export = button("Export…", "Write the selected particles as a RELION list", self.ask_export, strong=True)
        for part in (self.undo, self.redo, self.invert, self.clear):
            layout.addWidget(part)
        layout.addStretch(1)
        layout.addWidget(self.count)
        layout.addSpacing(6)
        for part in (self.name, self.export):
            layout.addWidget(part)
        return bar

    def _groups_bar(self) -> QWidget:
        bar = QWidget()
        layout = QHBoxLayout(bar)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.k = QSpinBox()
        self.k.setRange(0, 30)
        self.k.setSpecialValueText("auto")
        self.k.setToolTip("How many groups; auto takes as many as describe the codes best")
        self.space = QComboBox()
        self.space.addItems(["content", "transform"])
        self.space.setToolTip("In which code groups are found; never on the map")
        self.within = QComboBox()
        self.within.addItems(["all", "the selection"])
        self.within.setToolTip("Which particles are grouped")
        self.find_button = button(
            "Find groups", "Group particles in the space of codes (Gaussian mixture)", self._find_groups
        )
        for part in (QLabel("groups"), self.k, QLabel("in"), self.space, QLabel("of"), self.within, self.find_button):
            layout.addWidget(part)
        layout.addWidget(self.groups_row)
        self.stale_groups = QLabel("of an earlier training")
        self.stale_groups.setStyleSheet(f"QLabel {{ color: {WARNING}; }}")
        self.stale_groups.setToolTip(
            "The codes have changed since these groups were found; Find groups finds them anew"
        )
        self.stale_groups.setVisible(False)
        layout.addWidget(self.stale_groups)
        self._chips = QHBoxLayout(self.groups_row)
        self._chips.setContentsMargins(6, 0, 0, 0)
        self._chips.setSpacing(2)
        layout.addStretch(1)
        for part in (QLabel("kept"), self.saved, QLabel("colour"), self.colour):
            layout.addWidget(part)
        self.colour.currentTextChanged.connect(lambda _: self._colour_points())
        self.saved.activated.connect(self._choose_saved)
        return bar

    def _toggle(self, title: str, about: str, group: QButtonGroup, clicked: Callable[[], Any]) -> QPushButton:
        made = button(title, about, clicked)
        made.setCheckable(True)
        made.setStyleSheet("QPushButton { padding: 3px 6px; }")
        group.addButton(made)
        return made

    def _shortcut(self, keys: str, done: Callable[[], Any], where: QWidget | None = None) -> None:
        shortcut = QShortcut(QKeySequence(keys), where or self)
        shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        shortcut.activated.connect(done)

    def _set_theme(self, event: Any = None) -> None:
        del event
        colours = theme_colours(self._bench.viewer.theme)
        for view in self.views:
            view.canvas.set_theme(*colours)
        self.particle.set_theme(*colours)

    # ---- selecting ---------------------------------------------------------------------------------------------

    def choose_tool(self, name: str) -> None:
        """Take a tool, in both maps; Esc is heard at once."""
        if not any(view.canvas.native.hasFocus() for view in self.views):
            self.content.canvas.native.setFocus()
        self.tools[name].setChecked(True)
        for view in self.views:
            view.canvas.set_tool(name)

    def _on_drawn(self, view: MapView, stroke: Stroke) -> None:
        session = self._bench.session
        coordinates, ids = view.coordinates, session.ids
        if coordinates is None:
            return
        combine = next(name for name, one in self.combine.items() if one.isChecked())
        how = {
            "tool": stroke.tool, "map": view.described, "points": np.round(stroke.points, 5).tolist(), "radius": stroke.radius
        }  # fmt: skip

        def chosen(mask: NDArray[np.bool_]) -> None:
            if ids is session.ids:
                session.select(ids[mask], how, combine)

        in_thread(lambda: stroke.mask(coordinates), done=chosen, failed=self._bench.failing("maps"))

    def _on_picked(self, row: int) -> None:
        session = self._bench.session
        if row < len(session.ids):
            self.side.setCurrentWidget(self.particle)
            self._bench.results.show_particle(int(session.ids[row]))

    def _on_pictured(self, index: int) -> None:
        if index < len(self._pictured):
            self.side.setCurrentWidget(self.particle)
            self._bench.results.show_particle(int(self._pictured[index]))

    def _invert(self) -> None:
        session = self._bench.session
        session.select(session.ids[~session.selected], {"tool": "invert"})

    def ask_name(self) -> None:
        """Ask for a name, and keep the selection under it."""
        chosen = self._bench.session.selection
        if chosen is None or not len(chosen):
            return
        name, accepted = QInputDialog.getText(self, "Name the selection", f"Name of these {len(chosen):,} particles:")
        if accepted and name.strip():
            self._bench.results.name_selection(name.strip())

    def ask_export(self) -> None:
        """Ask where to, and export the selection."""
        chosen, run = self._bench.session.selection, self._bench.session.run
        if chosen is not None and len(chosen) and run is not None:
            ExportDialog(self._bench, chosen, self).open()

    def _find_groups(self) -> None:
        within = self._bench.session.selection if self.within.currentIndex() == 1 else None
        if self.within.currentIndex() == 1 and not within:
            self._bench.tell("maps", "Nothing is selected; draw around the particles to be grouped, or group all.")
            return
        self._bench.results.group(self.space.currentText(), self.k.value() or None, within)

    def _choose_saved(self, index: int) -> None:
        session, name = self._bench.session, self.saved.itemData(index)
        run = session.run
        if run is None or not name:
            return

        def chosen(selection: Selection) -> None:
            if run is session.run:
                session.choose(selection)

        in_thread(lambda: run.selection(name), done=chosen, failed=self._bench.failing("maps"))

    # ---- showing -----------------------------------------------------------------------------------------------

    def _show_run(self) -> None:
        for part in (self.invert, self.clear, self.saved):
            part.setEnabled(self._bench.session.run is not None)
        self.particle.set_volumes([])
        self.side.setTabText(1, "particle")

    def _colour_points(self) -> None:
        session = self._bench.session
        if not len(session.ids):
            return
        colours, selected = self._colours(), session.selected
        for view in self.views:
            view.set_looks(colours, selected)

    def _colours(self) -> NDArray[np.float32]:
        session = self._bench.session
        by, particles, codes = self.colour.currentText(), session.particles, session.codes
        n = len(session.ids)
        values: NDArray[np.float64] | None = None
        if particles is not None:
            if by == "tomogram" and particles.tomogram is not None:
                return rgba(np.unique(particles.tomogram, return_inverse=True)[1].astype(np.int64))
            if by == "half-set" and particles.halves is not None:
                return rgba(particles.halves - 1)
            if by == "defocus" and particles.defocus is not None:
                values = particles.defocus
        if codes is not None and by.startswith("content"):
            column = int(by.split()[1]) - 1
            values = np.full(n, np.nan)
            if column < codes.content.shape[1]:
                values[session.rows_of(codes.ids)] = codes.content[np.argsort(codes.ids), column][:n]
        if codes is not None and by == "shift" and codes.pose is not None:
            values = np.full(n, np.nan)
            values[session.rows_of(codes.ids)] = np.linalg.norm(codes.pose.offsets, axis=1)
        if values is not None:
            return rgba_of_values(values)
        return rgba(session.labels() if by == "group" else np.full(n, -1, np.int64))

    def _offer_codes(self) -> None:
        """Offer only what the run's codes can say."""
        codes, particles = self._bench.session.codes, self._bench.session.particles
        self.find_button.setEnabled(codes is not None)
        why = self._bench.no_transformation
        offer(self.space, 1, offered=not why, tooltip=why)
        if why and self.space.currentIndex() == 1:
            self.space.setCurrentIndex(0)
        known = {
            "shift": codes is None or codes.pose is not None,
            "content 2": codes is None or codes.content.shape[1] > 1,
            "tomogram": particles is None or particles.tomogram is not None,
            "half-set": particles is None or particles.halves is not None,
            "defocus": particles is None or particles.defocus is not None,
        }
        for name, there in known.items():
            lacks = "This model has no such code" if name in ("shift", "content 2") else "The list does not say it"
            offer(self.colour, COLOURS.index(name), offered=there, tooltip="" if there else lacks)
            if not there and self.colour.currentText() == name:
                self.colour.setCurrentIndex(0)

    def _show_groups(self) -> None:
        self._offer_codes()
        while (item := self._chips.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().deleteLater()  # pyright: ignore[reportOptionalMemberAccess]
        session = self._bench.session
        for k, group in enumerate(session.groups):
            chip = button(
                f"{k + 1}: {len(group):,}", f"Select group {k + 1}, {len(group):,} particles",
                lambda group=group: self._bench.session.choose(group),
            )  # fmt: skip
            chip.setStyleSheet(f"QPushButton {{ border-left: 8px solid {group_colour(k)}; padding: 2px 6px; }}")
            self._chips.addWidget(chip)
        self.stale_groups.setVisible(
            any(g.how.get("fingerprint") not in ("", None, session.fingerprint) for g in session.groups)
        )
        self._colour_points()
        self._outline_pictures()
        self._list_saved()

    def _list_saved(self) -> None:
        session = self._bench.session
        self.saved.clear()
        self.saved.addItem("selections…", "")
        for name in session.saved:
            group, _, number = name.partition("/")
            if group != DRAWN and not group.startswith(CONTROL):  # the one at hand, and what stands beside it
                self.saved.addItem(f"group {int(number) + 1}" if group == session.grouping else name, name)
        at = -1 if session.selection is None else self.saved.findData(session.selection.name)
        self.saved.setCurrentIndex(max(at, 0))

    def _show_selection(self) -> None:
        session = self._bench.session
        chosen = session.selection
        count = 0 if chosen is None else len(chosen)
        self.count.setText(f"{len(session.ids):,} shown, {count:,} selected" if len(session.ids) else "no run yet")
        self.export.setText(f"Export {count:,}…" if count else "Export…")
        self.name.setEnabled(count > 0)
        self.export.setEnabled(count > 0)
        self.undo.setEnabled(session.history.can_undo)
        self.redo.setEnabled(session.history.can_redo)
        selected = session.selected
        for view in self.views:
            view.set_selected(selected)
        self._list_saved()

    def _show_pictures(self, found: tuple[NDArray[np.int64], list[Any]]) -> None:
        self._pictured = ids = found[0]
        if not len(ids):
            self.gallery.clear()
            return
        how = how_shown(self._bench.session.particles)
        self.gallery.set_pictures(found[1], tooltips=[f"particle {i}{how and ', central slice'}{how}" for i in ids])
        self._outline_pictures()

    def _outline_pictures(self) -> None:
        session, known = self._bench.session, self._pictured
        if not np.isin(known, session.ids).all():
            return  # of the run before
        labels = session.labels()
        rows = [int(np.flatnonzero(session.ids == i)[0]) for i in known]
        self.gallery.set_outlines([group_colour(int(labels[r])) if labels[r] >= 0 else None for r in rows])

    def _show_particle(self, found: dict[str, Any]) -> None:
        why = self._bench.no_decoder
        note = f"raw{how_shown(self._bench.session.particles)}" + (f". {why}" if why else "")
        shown = [Shown(f"particle {found['id']}", as_volume(found["raw"]), found["raw_voxel"], note=note)]
        if found["decoded"] is not None:
            decoded = as_volume(found["decoded"])
            shown.append(Shown("decoded", decoded, found["decoded_voxel"], colour="#56B4E9", note="model, not data"))
        self.particle.set_volumes(shown)
        self.side.setTabText(1, f"particle {found['id']}")

    def _say_problem(self, room: str, text: str) -> None:
        if room == "maps":
            self.problem.say(text)

    def dispose(self) -> None:
        """Listen no more, and free what the canvases hold."""
        self._links.drop()
        for view in self.views:
            view.dispose()
        self.particle.close_canvas()
