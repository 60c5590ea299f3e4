"""Averages: what the selection or each group looks like, whether the raw data support it, and what the model thinks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.compat import isalive
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from napari_disentangle.fourier import fourier_crop
from napari_disentangle.gui.export_dialog import ExportDialog
from napari_disentangle.gui.forms import Links, ProblemLine, button, row, words
from napari_disentangle.gui.plots import FscPlot
from napari_disentangle.gui.theme import group_colour, theme_colours
from napari_disentangle.gui.volumes import Shown, VolumeRow
from napari_disentangle.gui.worker import in_thread
from napari_disentangle.learnt import views_covered
from napari_disentangle.selection import CONTROL
from napari_disentangle.session import DRAWN

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from napari_disentangle.export import StoredAverage
    from napari_disentangle.gui.results import Compared
    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.selection import Selection

RAW, DECODED, DIFFERENCE, GIVEN = "#d8d8d8", "#56B4E9", "#CC79A7", "#E69F00"
CONTROLS = "#888888"
EMPTY = "Select particles in a map, or a group, and press Average."


class AveragesPanel(QWidget):
    """Raw average, decoded volume and their difference, with the FSC of half maps.

    Parameters
    ----------
    bench : Workbench
    """

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = bench
        self._round = 0
        self._shown: list[Shown] = []
        self.problem = ProblemLine()
        self.of = QComboBox()
        self.of.setToolTip("What is averaged: the selection at hand, each group, or a selection that was kept")
        self.make = button(
            "Average",
            "Average these particles, with the poses that training searched, or aligned now where it did not",
            self._make,
            strong=True,
        )
        self.refine = button(
            "Refine alignment",
            "Align the particles to their own average, each half to its own, and average again: minutes",
            self._refine,
        )
        self.compare = button(
            "Compare with…",
            "Turn a map of yours (an earlier reconstruction, a deposited map) onto this average, and correlate them",
            self._compare,
        )
        self.control = button(
            "Control",
            "Average as many particles from outside this selection, taken at random: what any of them would look like",
            self._control,
        )
        self._compared: Compared | None = None
        self.decoded = QCheckBox("decoded")
        self.decoded.setToolTip("The model's own volume of these particles, turned onto the average: model, not data")
        self.decoded.setChecked(True)
        self.difference = QCheckBox("difference")
        self.difference.setToolTip(
            "Average minus decoded, both scaled to the same spread: what the model does not explain"
        )
        self.volumes = VolumeRow()
        self.volumes.setMinimumHeight(190)
        self.stale = words("")
        self.facts = words("")
        self.fsc = FscPlot()
        self.fsc.setMinimumHeight(110)
        self.fsc.setMaximumHeight(170)
        self.add = button("Add to viewer", "Add what is shown here to the viewer, as layers", self._add)
        self.export = button("Export…", "Write the particles, and on request these maps", self._export)
        self._build()
        session = bench.session
        list_all, show = (bench.turns.soon(self, piece) for piece in (self._list, self._show))
        self._links = Links(self)
        for signal, slot in (
            (session.selection_changed, list_all),
            (session.groups_changed, list_all),
            (session.run_changed, list_all),
            (session.averages_changed, show),
            (session.maps_changed, show),
            (bench.results.compared, self._show_compared),
            (bench.problem, self._say_problem),
            (bench.viewer.events.theme, self._set_theme),
        ):
            self._links.add(signal, slot)
        self._set_theme()
        self._list()
        self._say_problem("averages", bench.problems.get("averages", ""))

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(3)
        below = QWidget()
        beside = QHBoxLayout(below)
        beside.setContentsMargins(0, 0, 0, 0)
        told = QVBoxLayout()
        for part in (self.stale, self.facts):
            told.addWidget(part)
        told.addWidget(row(self.decoded, self.difference, 1))
        told.addWidget(row(self.compare, self.control, 1))
        told.addStretch(1)
        beside.addLayout(told, 1)
        beside.addWidget(self.fsc, 1)
        for part in (self.problem, row("of", self.of, self.make, 1)):
            layout.addWidget(part)
        layout.addWidget(self.volumes, 1)
        layout.addWidget(below)
        self.footer = row(self.refine, 1, self.add, self.export)
        self.of.setMinimumContentsLength(12)
        self.of.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.of.currentIndexChanged.connect(lambda _: self._show())
        for box in (self.decoded, self.difference):
            box.toggled.connect(lambda _: self._show())

    def _set_theme(self, event: Any = None) -> None:
        del event
        colours = theme_colours(self._bench.viewer.theme)
        self.volumes.set_theme(*colours)
        self.fsc.set_theme(*colours)

    # ---- what is meant -----------------------------------------------------------------------------------------

    def _list(self) -> None:
        """List what can be averaged."""
        session = self._bench.session
        before = self.of.currentData()
        self.of.blockSignals(True)
        self.of.clear()
        chosen = session.selection
        if chosen is not None and len(chosen):
            self.of.addItem(f"the selection ({len(chosen):,})", "selection")
        if len(session.groups) > 1:
            self.of.addItem(f"each of {len(session.groups)} groups", "groups")
        for k, group in enumerate(session.groups):
            self.of.addItem(f"group {k + 1} ({len(group):,})", group.name)
        at = self.of.findData(before)
        # A new selection is what the user means next.
        self.of.setCurrentIndex(0 if before is None or before == "selection" or at < 0 or self._is_new(chosen) else at)
        self.of.blockSignals(False)
        self._last = None if chosen is None else chosen.ids
        self._show()

    _last: NDArray[np.int64] | None = None

    def _is_new(self, chosen: Selection | None) -> bool:
        return (
            chosen is not None
            and len(chosen) > 0
            and (self._last is None or not np.array_equal(self._last, chosen.ids))
        )

    def selections(self) -> list[Selection]:
        """Return what would be averaged."""
        session, what = self._bench.session, self.of.currentData()
        if what == "selection":
            return [session.selection] if session.selection is not None else []
        if what == "groups":
            return list(session.groups)
        return [group for group in session.groups if group.name == what]

    def _make(self) -> None:
        self._bench.results.average(self.selections())

    def _refine(self) -> None:
        self._bench.results.average(self.selections(), refine=True)

    def _control(self) -> None:
        self._bench.results.control(self.selections()[0])

    def _compare(self) -> None:
        bench = self._bench
        name, _ = QFileDialog.getOpenFileName(self, "Compare with a map", str(bench.folder or ""), "Maps (*.mrc *.map)")
        if name:
            bench.results.compare(self.selections()[0], Path(name))

    def _show_compared(self, found: Compared) -> None:
        self._compared = found
        self._show()

    def _export(self) -> None:
        chosen = self.selections()
        if len(chosen) == 1:
            ExportDialog(self._bench, chosen[0], self).open()
        elif chosen:
            self._bench.tell("averages", "Several groups are shown; choose one of them to export it.")

    # ---- what is shown -----------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Show the averages of what is chosen, as far as there are any, and say whether they are of these particles."""
        session = self._bench.session
        chosen = self.selections()
        trained = session.run is not None and not session.is_new
        for control in (self.make, self.refine):
            control.setEnabled(trained and bool(chosen))
        found = [(one, session.averages[one.name]) for one in chosen if one.name in session.averages]
        averaged = len(chosen) == 1 and bool(found)
        for control in (self.compare, self.control):
            control.setEnabled(averaged)
        given = self._compared
        if not averaged or given is None or given.average is not found[0][1]:
            given = None
        if averaged and (name := chosen[0].control_name) in session.averages:
            found.append((chosen[0].control(session.ids), session.averages[name]))
        for control in (self.add, self.export):
            control.setEnabled(bool(found) or (control is self.export and len(chosen) == 1))
        self._round += 1
        why = self._bench.no_decoder
        for box in (self.decoded, self.difference):
            box.setVisible(not why)
        if not found:
            self._shown = []
            self.volumes.set_volumes([])
            self.volumes.set_message(EMPTY if trained else "Averages need poses: train first.")
            self.stale.setText("")
            self.facts.setText("")
            self.fsc.clear()
            self.fsc.setVisible(False)
            return
        self.stale.setText(
            "\n".join(filter(None, (staleness(one, average, session.fingerprint) for one, average in found)))
        )
        self.stale.setVisible(bool(self.stale.text()))
        facts = [self._facts(one, average, len(found) > 1) for one, average in found]
        if given is not None:
            agree = "no FSC above 0.5" if given.resolution is None else f"FSC 0.5 at {given.resolution:.0f} Å"
            facts.append(f"with {given.path.name}: correlation {given.correlation:.2f}, {agree}")
        self.facts.setText("\n".join([*facts, why] if why else facts))
        self.fsc.setVisible(True)
        ink = theme_colours(self._bench.viewer.theme)[1]
        curves = [(self._name(one), self._colour(one, ink), average.frequency, average.fsc) for one, average in found]
        if given is not None:
            curves.append((f"with {given.path.name}", GIVEN, given.frequency, given.fsc))
        self.fsc.set_curves(curves)
        this, many = self._round, len(found) > 1
        with_decoded, with_difference = self.decoded.isChecked(), self.difference.isChecked()

        def compute() -> list[Shown]:
            shown = [
                shown for one, average in found
                for shown in self._volumes(one, average, many, with_decoded, with_difference)
            ]  # fmt: skip
            if given is not None:
                voxel = given.average.record.voxel_size
                shown.append(Shown(given.path.name, given.volume, voxel, GIVEN, note="turned onto the average"))
            return shown

        def take(shown: list[Shown]) -> None:
            if this == self._round and isalive(self):  # it may go with its window, and is not disposed of then
                self._shown = shown
                self.volumes.set_message("")
                self.volumes.set_volumes(shown)

        in_thread(compute, done=take, failed=self._bench.failing("averages"))

    def _name(self, selection: Selection) -> str:
        group, _, number = selection.name.partition("/")
        if group == self._bench.session.grouping:
            return f"group {int(number) + 1}"
        if group.startswith(CONTROL):
            return "control"
        return "selection" if group == DRAWN else group

    def _colour(self, selection: Selection, other: str) -> str:
        group, _, number = selection.name.partition("/")
        if group == self._bench.session.grouping:
            return group_colour(int(number))
        return CONTROLS if group.startswith(CONTROL) else other

    def _volumes(
        self, selection: Selection, average: StoredAverage, many: bool, with_decoded: bool, with_difference: bool
    ) -> list[Shown]:
        voxel, name = average.record.voxel_size, self._name(selection)
        shown = [
            Shown(f"{name}: average" if many else "raw average", average.volume, voxel, self._colour(selection, RAW))
        ]
        decoded, size = average.decoded, average.record.decoded_voxel_size
        if decoded is None or size is None:
            return shown
        if with_decoded:
            title = f"{name}: decoded" if many else "decoded"
            shown.append(Shown(title, decoded, size, DECODED, note="model, not data"))
        if with_difference:
            raw, side = average.volume, decoded.shape[-1]
            raw = raw if raw.shape[-1] == side else fourier_crop(raw[None], side)[0]
            title = f"{name}: difference" if many else "difference"
            shown.append(Shown(title, _scaled(raw) - _scaled(decoded), size, DIFFERENCE))
        return shown

    def _facts(self, selection: Selection, average: StoredAverage, many: bool) -> str:
        record, codes = average.record, self._bench.session.codes
        parts = [f"n = {record.count:,}"]
        parts.append(
            "half maps do not agree" if record.resolution is None else f"FSC 0.143 at {record.resolution:.0f} Å"
        )
        parts[-1] += " (halves of one model)"
        if record.mode == "fixed" and codes is not None and codes.pose is not None:
            turns = codes.pose.rotations[np.isin(codes.ids, np.array(record.ids))]
            parts.append(f"{views_covered(turns):.0%} of views")
        rounds = f"{record.rounds} round{'s' if record.rounds != 1 else ''}"
        parts.append("poses of the training" if record.mode == "fixed" else f"aligned in {rounds}")
        return (f"{self._name(selection)}: " if many else "") + "; ".join(parts)

    def _add(self) -> None:
        for one in self._shown:
            note = f" ({one.note})" if one.note else ""
            self._bench.layers.add_volume(f"{one.title}{note}", one.volume, one.voxel_size)

    def _say_problem(self, room: str, text: str) -> None:
        if room == "averages":
            self.problem.say(text)

    def dispose(self) -> None:
        """Listen no more, and free what the canvas holds."""
        self._links.drop()
        self._bench.turns.drop(self)
        self._round += 1  # what a thread is at comes too late
        self.volumes.close_canvas()


def staleness(selection: Selection, average: StoredAverage, fingerprint: str | None) -> str:
    """Return what to say of an average of other particles, or of an earlier training; empty if it is current."""
    doubts: list[str] = []
    if not np.array_equal(np.sort(np.array(average.record.ids)), selection.ids):
        doubts.append(f"of {average.record.count:,} other particles than are selected now")
    if average.record.fingerprint != fingerprint:
        doubts.append("of an earlier training")
    return f"! This average is {' and '.join(doubts)}; press Average." if doubts else ""


def _scaled(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    spread = float(volume.std())
    return (volume - volume.mean()) / (spread or 1.0)
