"""Particles: what was opened and understood, what is guessed or missing, and boxes that tell if it looks right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_disentangle.gui.card_words import details, headline
from napari_disentangle.gui.forms import Links, ProblemLine, button, number, row, words
from napari_disentangle.gui.gallery import Gallery
from napari_disentangle.gui.layers import OURS, image_around
from napari_disentangle.preview import box_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qtpy.QtGui import QDragEnterEvent, QDropEvent

    from napari_disentangle.gui.workbench import Workbench
    from napari_disentangle.preview import Preview

EMPTY = "Drop a particle list, a stack or a run folder here, or"
UNSAID = -91
"""Of a tilt: below any that there is."""
FILTER = "Particles (*.star *.csv *.mrcs *.mrc *.map *.st);;All files (*)"


class ParticlesPanel(QWidget):
    """The first room: open, look, and say that it looks right.

    Parameters
    ----------
    bench : Workbench
    onwards : callable
        Called when the user says "Looks right".
    """

    def __init__(self, bench: Workbench, onwards: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = bench
        self._filling = False
        self.setAcceptDrops(True)
        self.problem = ProblemLine()
        self.open_button = button(
            "Open…",
            "Open a particle list (.star, .csv), a stack of boxes (.mrcs) or an optimisation set",
            self.ask_file,
        )
        self.folder_button = button(
            "Open folder…", "Open a folder of boxes that extract wrote, or a run folder", self.ask_folder
        )
        self.sample_button = button(
            "Try the sample tomogram", "A small simulated tomogram with about 100 particles", self._sample
        )
        self.empty = words(EMPTY)
        self.card = QGroupBox()
        self.headline, self.details, self.notes = words(), words(), words()
        self.notes.setToolTip("What was guessed, left out or is missing")
        self.tomograms = QComboBox()
        self.tomograms.setToolTip("Which tomogram is shown in the viewer")
        self.tomograms.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.tomograms.setMinimumContentsLength(14)
        self.locate = button(
            "Locate…", "Say where the tomograms are: their tomograms.star, or the one volume", self.ask_tomograms
        )
        self.diameter = number(
            "Diameter of the particle. The box (1.6 diameters), the mask and the largest shift follow from it.",
            low=0, high=5000, unit="Å", unknown="not known", step=10,
        )  # fmt: skip
        self.box = QLabel()
        self.dark = QRadioButton("dark")
        self.bright = QRadioButton("bright")
        self.contrast_guess = QLabel()
        self.boxes = Gallery(columns=8, side=32)
        self.mean = Gallery(columns=1, side=64)
        self.right = button(
            "Looks right: quick look ▸",
            "Cut the boxes, map the particles and train a quick model",
            onwards,
            strong=True,
        )
        self._build()
        self._links = Links(self)
        self._links.add(bench.session.source_changed, self._show_source)
        self._links.add(bench.session.run_changed, self._show_run)
        self._links.add(bench.opening.previewed, self._show_preview)
        self._links.add(bench.opening.refused, self._show_refused)
        self._links.add(bench.opening.tomogram_shown, self._show_tomogram)
        self._links.add(bench.problem, self._say_problem)
        self._links.add(bench.viewer.layers.events.inserted, self._on_layer)
        self._links.add(bench.viewer.layers.events.removed, self._list_layers)
        self._links.add(bench.viewer.layers.events.renamed, self._list_layers)
        self._links.add(bench.opening.tomogram_shown, self._list_layers)
        self._show_source()
        self._list_layers()
        self._show_preview(bench.opening.preview)
        bench.opening.open_layers()
        self._say_problem("particles", bench.problems.get("particles", ""))

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(4)
        self.points = QComboBox()
        self.points.setToolTip("A points layer of the viewer, picked in the tomogram that is open")
        self.points.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.points.setMinimumContentsLength(8)
        self.use_points = button("Use points", "Take the points of that layer for particles", self._use_points)
        self._from_points = row("or", self.points, self.use_points)
        self._sampler = row(self.sample_button, 1)
        self.units = ProblemLine()
        self.units.add_remedy(
            button("Use Å", "Give those layers Ångström as their unit; their scale stays", self._adopt_units)
        )
        for part in (
            self.problem,
            self.units,
            self.empty,
            row(self.open_button, self.folder_button, self._from_points, 1),
        ):
            layout.addWidget(part)
        layout.addWidget(self._sampler)
        layout.addWidget(self.card)
        card = QVBoxLayout(self.card)
        card.setContentsMargins(6, 4, 6, 4)
        card.setSpacing(3)
        self._tomogram_row = row("tomogram", self.tomograms, self.locate, 1)
        self.dark.setToolTip("Protein is darker than the ice, as in raw tomograms; boxes are turned over")
        self.bright.setToolTip("Protein is brighter than the ice, as in RELION's boxes")
        self._contrast = QButtonGroup(self)
        for choice in (self.dark, self.bright):
            self._contrast.addButton(choice)
        pictures = QWidget()
        beside = QHBoxLayout(pictures)
        beside.setContentsMargins(0, 0, 0, 0)
        beside.addWidget(self.boxes, 1)
        beside.addWidget(self.mean, 0)
        for part in (
            self.headline, self.details, self.notes, self._tomogram_row,
            row("diameter", self.diameter, self.box, 1),
            row("protein is", self.dark, self.bright, self.contrast_guess, 1),
            pictures,
        ):  # fmt: skip
            card.addWidget(part)
        layout.addWidget(self._unknowns())
        self.place = words(dim=True)
        layout.addWidget(self.place)
        layout.addStretch(1)
        self.footer = self.right
        self.diameter.valueChanged.connect(self._on_diameter)
        self._contrast.buttonToggled.connect(self._on_contrast)
        self.tomograms.activated.connect(self._on_tomogram)

    def _unknowns(self) -> QCollapsible:
        """Return the fields for what the files do not say, folded away."""
        self.voxel_size = number(
            "Voxel size, where files do not say or are wrong",
            low=0,
            high=1000,
            unit="Å",
            decimals=3,
            unknown="as the files say",
        )
        self.tilt_low = number("Lowest tilt of the series", low=UNSAID, high=90, unit="°", unknown="as the files say")
        self.tilt_high = number("Highest tilt of the series", low=UNSAID, high=90, unit="°", unknown="as the files say")
        self.pixel = number(
            "What coordinates count in, where the list does not say (Warp)",
            low=0,
            high=1000,
            unit="Å",
            decimals=3,
            unknown="as the files say",
        )
        self.size_from = QComboBox()
        self.size_from.addItems(["refuse", "star", "volume"])
        self.size_from.setToolTip("Which size of a tomogram to believe where its list and its volume disagree")
        self.tomograms_path = QLineEdit()
        self.tomograms_path.setToolTip("The tomograms.star, or the one volume, that the particles were picked in")
        self.tomograms_path.setPlaceholderText("tomograms.star or volume.mrc")
        form = QWidget()
        layout = QFormLayout(form)
        layout.setLabelAlignment(Qt.AlignmentFlag.AlignRight)
        layout.addRow("voxel size", self.voxel_size)
        layout.addRow("tilts from", self.tilt_low)
        layout.addRow("to", self.tilt_high)
        layout.addRow("coordinates in", self.pixel)
        layout.addRow("tomogram size of", self.size_from)
        layout.addRow("tomograms", self.tomograms_path)
        self.read_again = button("Read again", "Open the particles again with what is said here", self._reread)
        layout.addRow("", self.read_again)
        self.unknowns = QCollapsible("What the files do not say")
        self.unknowns.setToolTip("Sizes and angles that no file gives, or gives wrongly")
        self.unknowns.addWidget(form)
        return self.unknowns

    # ---- opening -----------------------------------------------------------------------------------------------

    def ask_file(self) -> None:
        """Ask for a file, and open it."""
        name, _ = QFileDialog.getOpenFileName(self, "Open particles", str(self._bench.folder or ""), FILTER)
        if name:
            self._bench.opening.open(Path(name))

    def ask_folder(self) -> None:
        """Ask for a folder of boxes or of a run, and open it."""
        name = QFileDialog.getExistingDirectory(self, "Open a folder of boxes, or a run", str(self._bench.folder or ""))
        if name:
            self._bench.opening.open(Path(name))

    def ask_tomograms(self) -> None:
        """Ask where the tomograms are, and read the particles again."""
        name, _ = QFileDialog.getOpenFileName(
            self,
            "The particles' tomograms",
            str(self._bench.folder or ""),
            "Tomograms (*.star *.mrc *.rec *.map);;All files (*)",
        )
        if name:
            source, opening = self._bench.session.source, self._bench.opening
            if source is not None and opening.attempt is not None:
                opening.attempt = None  # those on the card are meant, and not those refused since
                self._fill_unknowns(source.path, source.reading)
            self.tomograms_path.setText(name)
            self._reread()

    def dragEnterEvent(self, a0: QDragEnterEvent | None) -> None:
        """Take files."""
        if a0 is not None and a0.mimeData().hasUrls():  # pyright: ignore[reportOptionalMemberAccess]
            a0.acceptProposedAction()

    def dropEvent(self, a0: QDropEvent | None) -> None:
        """Open what was dropped: particles, and tomograms for them if there are two files."""
        if a0 is None:
            return
        paths = [Path(url.toLocalFile()) for url in a0.mimeData().urls() if url.isLocalFile()]  # pyright: ignore[reportOptionalMemberAccess]
        a0.acceptProposedAction()
        self._bench.opening.open_together(paths)

    def _sample(self) -> None:
        self._bench.problem.emit("particles", "")
        self._bench.opening.open_sample()

    def _on_layer(self, event: Any) -> None:
        self._list_layers()
        self._bench.opening.open_layer(event.value)

    def _list_layers(self, event: Any = None) -> None:
        """List the points layers that could be particles."""
        del event
        layers = [
            one for one in self._bench.viewer.layers if type(one).__name__ == "Points" and OURS not in one.metadata
        ]
        chosen = self.points.currentText()
        self.points.clear()
        for layer in layers:
            self.points.addItem(layer.name)
        self.points.setCurrentText(chosen)
        self._from_points.setVisible(bool(layers))
        self._look_at_units()

    def _look_at_units(self) -> None:
        shown = self._bench.layers
        mixed = shown.image is not None or shown.points is not None
        names = [layer.name for layer in shown.without_units()] if mixed else []
        several = "s" if len(names) > 1 else ""
        self.units.say(
            f"Layer{several} {', '.join(names)} say{'' if several else 's'} no unit, for which napari drops those of all."
            if names else ""
        )  # fmt: skip

    def _adopt_units(self) -> None:
        self._bench.layers.adopt_units()
        self._look_at_units()

    def _use_points(self) -> None:
        layers = self._bench.viewer.layers
        name = self.points.currentText()
        if name in layers:
            image = image_around(layers[name], [one for one in layers if type(one).__name__ == "Image"])
            self._bench.opening.open_points(layers[name], image, self.voxel_size.value() or None)

    # ---- what was understood -----------------------------------------------------------------------------------

    def _show_source(self) -> None:
        source = self._bench.session.source
        self.card.setVisible(source is not None)
        self.unknowns.setVisible(source is not None)
        self.right.setVisible(source is not None)
        self.empty.setVisible(source is None)
        self._sampler.setVisible(source is None)
        if source is None:
            self.place.setText("")
            return
        found = source.description
        self.card.setTitle(source.path.name)
        self.card.setToolTip(str(source.path))
        self.headline.setText(headline(found))
        self.details.setText(details(found))
        self.notes.setText("\n".join(f"! {note}" for note in found.notes))
        self.notes.setVisible(bool(found.notes))
        self._filling = True
        self.tomograms.clear()
        for tomogram in found.tomograms:
            self.tomograms.addItem(
                f"{tomogram.name} ({tomogram.particles})" + ("" if tomogram.path else ", not found"), tomogram.name
            )
        missing = [t for t in found.tomograms if t.path is None]
        self._tomogram_row.setVisible(bool(found.tomograms) or found.kind == "positions")
        self.locate.setVisible(found.kind == "positions" and (bool(missing) or not found.tomograms))
        self.diameter.setValue(self._bench.session.diameter or 0)
        self._fill_unknowns(source.path, source.reading)
        self._filling = False
        self._say_box()
        self.place.setText(f"Boxes and runs are kept in {self._bench.folder}")

    def _show_refused(self) -> None:
        """Offer the fields for what the files do not say, which may be all that is wrong."""
        last = self._bench.opening.attempt
        if last is not None:
            self._fill_unknowns(last.path, last.reading)
        self.unknowns.setVisible(True)
        self.unknowns.expand(animate=False)

    def _fill_unknowns(self, path: Path, reading: Mapping[str, Any]) -> None:
        self.read_again.setToolTip(f"Open {path} again with what is said here")
        self.voxel_size.setValue(reading.get("voxel_size") or 0)
        self.pixel.setValue(reading.get("coordinate_pixel") or 0)
        low, high = reading.get("tilt_range") or (UNSAID, UNSAID)
        self.tilt_low.setValue(low)
        self.tilt_high.setValue(high)
        self.size_from.setCurrentText(reading.get("size_from") or "refuse")
        self.tomograms_path.setText(str(reading.get("tomograms") or reading.get("tomogram") or ""))

    def _show_run(self) -> None:
        """Show the particles of a run that was opened as a run."""
        session = self._bench.session
        if session.source is None and session.particles is not None and session.run is not None:
            self.empty.setText(f"The run {session.run.path.name} is open. Other particles: drop a list here, or")

    def _show_tomogram(self, name: str) -> None:
        if (at := self.tomograms.findData(name)) >= 0:
            self.tomograms.setCurrentIndex(at)

    def _show_preview(self, found: Preview | None) -> None:
        session, opening = self._bench.session, self._bench.opening
        known = found is not None or session.contrast_chosen
        self._filling = True
        self._contrast.setExclusive(False)
        for choice, dark in ((self.dark, True), (self.bright, False)):
            choice.setChecked(known and session.invert == dark)
        self._contrast.setExclusive(True)
        self._filling = False
        if found is None:
            asks = session.source is not None and not session.diameter
            need = "give the diameter to see boxes" if asks else "no boxes to see"
            for gallery, message in ((self.boxes, "reading boxes…" if opening.looking else need), (self.mean, "")):
                gallery.set_message(message)
                gallery.clear()
            self.contrast_guess.setText("")
            return
        guessed = found.resolution is not None and not session.contrast_chosen  # of images nothing is guessed
        self.contrast_guess.setText("(suggested by the mean)" if guessed else "")
        self._draw(found)

    def _draw(self, found: Preview) -> None:
        sign = -1 if self._bench.session.invert else 1
        how = "" if found.resolution is None else f", central slice, low-passed to {found.resolution:.0f} Å"
        if found.voxel_size is not None:
            how += f"; {found.voxel_size * found.slices.shape[-1]:.0f} Å wide"
        tips = [f"particle {i}{how}" for i in found.ids]
        self.boxes.set_pictures([sign * one for one in found.slices], tooltips=tips)
        self.mean.set_pictures(
            [sign * found.mean], ["mean"], tooltips=["the mean of the boxes as they lie, its central slice"]
        )

    def _say_box(self) -> None:
        source, diameter = self._bench.session.source, self.diameter.value()
        if source is None or not diameter:
            self.box.setText("")
        elif source.particles.volumes is not None and source.particles.voxel_size is not None:
            size = source.particles.volumes.shape[-1]
            self.box.setText(f"box {size * source.particles.voxel_size:.0f} Å ({size} voxels)")
        else:
            voxel = next((t.voxel_size for t in source.particles.tomograms if t.voxel_size), None)
            shape = None if voxel is None else box_for(diameter, voxel)
            size = 1.6 * diameter if shape is None or voxel is None else shape.size * shape.bin * voxel
            self.box.setText(f"box {size:.0f} Å" + ("" if shape is None else f" ({shape.size} voxels)"))

    # ---- what the user says ------------------------------------------------------------------------------------

    def _on_diameter(self, value: float) -> None:
        self._say_box()
        if not self._filling and value > 0:
            self._bench.opening.set_diameter(value)

    def _on_contrast(self, _: Any = None, checked: bool = True) -> None:
        if self._filling or not checked:
            return
        self._bench.session.invert, self._bench.session.contrast_chosen = self.dark.isChecked(), True
        self.contrast_guess.setText("")
        if self._bench.opening.preview is not None:
            self._draw(self._bench.opening.preview)

    def _on_tomogram(self, index: int) -> None:
        self._bench.opening.choose_tomogram(self.tomograms.itemData(index))

    def _reread(self) -> None:
        given = self.tomograms_path.text().strip()
        table = Path(given) if given.endswith(".star") else None
        volume = Path(given) if given and table is None else None
        low, high = self.tilt_low.value(), self.tilt_high.value()
        if (low > UNSAID) != (high > UNSAID):
            self.problem.say("Only one end of the tilt range is given; give the lowest and the highest tilt.")
            return
        self._bench.opening.reread(
            voxel_size=self.voxel_size.value() or None, coordinate_pixel=self.pixel.value() or None,
            tilt_range=(low, high) if high > UNSAID else None,
            size_from=None if self.size_from.currentText() == "refuse" else self.size_from.currentText(),
            tomograms=table, tomogram=volume,
        )  # fmt: skip

    def _say_problem(self, room: str, text: str) -> None:
        if room == "particles":
            self.problem.say(text)

    def dispose(self) -> None:
        """Listen no more."""
        self._links.drop()
