"""The fifth click: where the selected particles go, and what goes with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QDialog, QDialogButtonBox, QFileDialog, QLineEdit, QVBoxLayout, QWidget

from napari_disentangle.gui.exporting import is_of
from napari_disentangle.gui.forms import ProblemLine, button, row, words
from napari_disentangle.io.csv_list import is_csv

if TYPE_CHECKING:
    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.selection import Selection


class ExportDialog(QDialog):
    """Write a selection as rows of the original list.

    Parameters
    ----------
    bench : Workbench
    selection : Selection
    parent : QWidget
    """

    def __init__(self, bench: Workbench, selection: Selection, parent: QWidget) -> None:
        super().__init__(parent)
        self._bench, self._selection = bench, selection
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setObjectName("export")
        self.setWindowTitle("Export particles")
        session = bench.session
        self._writing = False
        run, particles = session.run, session.particles
        assert run is not None
        assert particles is not None
        self._run = run
        original = particles.original or particles.path
        suffix = original.suffix if is_csv(original) else ".star"
        name = selection.name.replace("/", "_")
        self.path = QLineEdit(str(run.path / "exports" / f"{run.path.name}_{name}{suffix}"))
        self.path.setToolTip("The list to write; a JSON file beside it says how the particles were chosen")
        self.path.setMinimumWidth(460)
        browse = button("Browse…", "Choose the file", self._browse)
        self.poses = QCheckBox("append the learned poses as columns")
        self.poses.setToolTip(
            "Angles and origins; columns that the list has already are kept, and ours get other names"
        )
        self.poses.setEnabled(session.codes is not None and session.codes.pose is not None and suffix == ".star")
        self.rest = QCheckBox("write the other particles too, as NAME_rest")
        self.rest.setToolTip("All rows of the original list that are not selected, with those that have no box")
        self.maps = QCheckBox("write the maps of its average too, into NAME_maps")
        self.maps.setToolTip("average, half maps, decoded volume (model, not data) and FSC")
        average = session.averages.get(selection.name)
        self.maps.setEnabled(average is not None and is_of(average.record, selection))
        self.overwrite = QCheckBox("replace files that are there")
        self.overwrite.setToolTip(
            "Without it nothing that exists is touched; what the run reads from is never replaced"
        )
        self.problem = ProblemLine()
        self.buttons = QDialogButtonBox()
        self.write = button(f"Export {len(selection):,}", "Write the files", self._write, strong=True)
        self.buttons.addButton(self.write, QDialogButtonBox.ButtonRole.ActionRole)
        self.buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        self.buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(words(
            f"{len(selection):,} particles of {original.name}: their rows are copied token for token, in the original order."
        ))  # fmt: skip
        layout.addWidget(row(self.path, browse))
        for part in (self.poses, self.rest, self.maps, self.overwrite, self.problem, self.buttons):
            layout.addWidget(part)

    def _browse(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Export particles", self.path.text(), "RELION list (*.star);;All files (*)"
        )
        if name:
            self.path.setText(name)

    def _write(self) -> None:
        if not self.path.text().strip():
            self.problem.say("Say which file to write.")
            return
        self._writing = True
        self.write.setEnabled(False)
        self.problem.say("")
        self._bench.results.export(
            self._run, self._selection, Path(self.path.text().strip()).expanduser(), poses=self.poses.isChecked(),
            complement=self.rest.isChecked(), maps=self.maps.isChecked(), overwrite=self.overwrite.isChecked(),
            done=self._wrote, failed=self._refused,
        )  # fmt: skip

    def reject(self) -> None:
        """Leave, unless files are being written."""
        if not self._writing:
            super().reject()

    def _wrote(self, _: str) -> None:
        self._writing = False
        self.accept()

    def _refused(self, sentence: str) -> None:
        self._writing = False
        self.write.setEnabled(True)
        self.problem.say(sentence)
