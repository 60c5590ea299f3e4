"""Small pieces that all panels are made of: buttons, number fields, lines that tell a problem, settings of a recipe."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from magicgui.widgets import Container, create_widget
from qtpy.QtCore import Qt
from qtpy.QtGui import QFontMetrics, QStandardItemModel
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from napari_disentangle.gui.theme import WARNING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel


def button(text: str, tooltip: str, clicked: Callable[[], Any] | None = None, *, strong: bool = False) -> QPushButton:
    """Return a push button; a `strong` one is the next step."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.setAccessibleName(text)
    if strong:
        made.setStyleSheet("QPushButton { font-weight: bold; padding: 6px 10px; }")
    if clicked is not None:
        made.clicked.connect(lambda _=False: clicked())
    return made


def words(text: str = "", *, dim: bool = False) -> QLabel:
    """Return a label that wraps, whose text can be selected and copied."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    if dim:
        label.setStyleSheet("QLabel { font-style: italic; }")
    return label


def number(
    tooltip: str, *, low: float, high: float, unit: str = "", decimals: int = 0, unknown: str = "", step: float = 1.0
) -> QDoubleSpinBox:
    """Return a number field with a unit; with `unknown`, its lowest value means that and is shown as such."""
    field = QDoubleSpinBox()
    field.setRange(low, high)
    field.setDecimals(decimals)
    field.setSingleStep(step)
    field.setKeyboardTracking(False)
    field.setToolTip(tooltip)
    if unit:
        field.setSuffix(f" {unit}")
    if unknown:
        field.setSpecialValueText(unknown)
    field.setMinimumWidth(QFontMetrics(field.font()).horizontalAdvance("00000.00 degrees") + 12)
    return field


def row(*parts: QWidget | str | int) -> QWidget:
    """Return widgets and words side by side; a number is a stretch."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        if isinstance(part, int):
            layout.addStretch(part)
        else:
            layout.addWidget(QLabel(part) if isinstance(part, str) else part)
    return made


def offer(box: QComboBox, index: int, *, offered: bool, tooltip: str) -> None:
    """Let an item of a menu be chosen or not, and say in its tooltip what it is, or why not."""
    model = box.model()
    assert isinstance(model, QStandardItemModel), "as of every combo box that was given no other"
    item = model.item(index)
    assert item is not None, f"a menu of {box.count()} items"
    item.setEnabled(offered)
    item.setToolTip(tooltip)


def fill(bar: QProgressBar, value: float, most: float = 100, text: str = "%p%") -> None:
    """Show on a bar how far something is, with the next painting of the window.

    Qt's setters paint at once, each of them, and in napari all of the window with it, because there are OpenGL canvases
    in it. No bar here runs to and fro while nothing is known, either: without a graphics card, its thirty pictures a
    second take half a core, which training wants.
    """
    if (bar.value(), bar.maximum(), bar.format()) == (round(value), round(most), text):
        return
    bar.setUpdatesEnabled(False)
    bar.setRange(0, round(most))
    bar.setValue(round(value))
    bar.setFormat(text)
    bar.setUpdatesEnabled(True)


class Links:
    """What a panel listens to outside of itself until it is thrown away: signals of psygnal and Qt, napari's events."""

    def __init__(self, owner: QWidget) -> None:
        owner.destroyed.connect(self.drop)  # with its window, where nobody disposes of it
        self._made: list[tuple[Any, Callable[..., Any]]] = []

    def add(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a signal."""
        signal.connect(slot)
        self._made.append((signal, slot))

    def drop(self, _: object = None) -> None:
        """Disconnect all; a second call does nothing."""
        made, self._made = self._made, []
        for signal, slot in made:
            # Qt has done so itself, which PySide tells by a SystemError
            with suppress(TypeError, RuntimeError, ValueError, SystemError):
                signal.disconnect(slot)


class ProblemLine(QWidget):
    """One sentence on what is wrong, with its remedies beside it; hidden while nothing is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sign = QLabel("!")
        self._sign.setStyleSheet(f"QLabel {{ color: {WARNING}; font-weight: bold; font-size: 15px; }}")
        self._sign.setFixedWidth(12)
        self.label = words()
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(0, 2, 0, 2)
        self._layout.addWidget(self._sign, 0, Qt.AlignmentFlag.AlignTop)
        self._layout.addWidget(self.label, 1)
        self.setVisible(False)

    def add_remedy(self, remedy: QPushButton) -> None:
        """Put a button beside the sentence."""
        self._layout.addWidget(remedy, 0, Qt.AlignmentFlag.AlignTop)

    @property
    def text(self) -> str:
        """The sentence; empty while nothing is wrong."""
        return self.label.text()

    def say(self, sentence: str) -> None:
        """Tell a problem; an empty sentence takes it back."""
        self.label.setText(sentence)
        self.setVisible(bool(sentence))


def settings_form(sections: Mapping[str, BaseModel]) -> Container[Any]:
    """Return a form of all settings of some sections of a recipe, their descriptions as tooltips.

    Parameters
    ----------
    sections : mapping
        Name of the section -> its settings.
    """
    fields: list[Any] = []
    for section, settings in sections.items():
        for name, info in type(settings).model_fields.items():
            kind = _plain_type(info.annotation)
            if kind is None:
                continue
            low = next((m.ge if isinstance(m, Ge) else m.gt for m in info.metadata if isinstance(m, Ge | Gt)), None)
            high = next((m.le if isinstance(m, Le) else m.lt for m in info.metadata if isinstance(m, Le | Lt)), None)
            options: dict[str, Any] = {"tooltip": info.description or ""}
            if kind in (int, float):
                options |= {"min": low if low is not None else 0, "max": high if high is not None else 1_000_000}
            if kind is float:
                options |= {"step": 1e-4 if name == "learning_rate" else 0.05}
            fields.append(
                create_widget(
                    value=getattr(settings, name), annotation=kind, name=f"{section}.{name}", label=name.replace("_", " "),
                    options=options,
                )
            )  # fmt: skip
    form = Container(widgets=fields, labels=True)
    names: list[QLabel] = form.native.findChildren(QLabel)
    # All fields begin at one place; the names grow with napari's font, which comes later.
    width = round(1.2 * max(one.sizeHint().width() for one in names))
    for one in names:
        one.setMinimumWidth(width)
    return form


def _plain_type(annotation: Any) -> Any:
    """Return the type of a setting that a form can show: choices, numbers and switches that are never unset."""
    if annotation in (int, float, bool) or (
        getattr(annotation, "__origin__", None) is not None and not _optional(annotation)
    ):
        return annotation
    return None


def _optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)
