"""Training: which model, how thoroughly and where; how it goes; what was learnt and what is suspicious."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QComboBox, QProgressBar, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_disentangle.gui.forms import Links, ProblemLine, button, fill, offer, row, settings_form, words
from napari_disentangle.gui.gallery import Gallery
from napari_disentangle.gui.plots import LossPlot
from napari_disentangle.gui.results import central, how_shown
from napari_disentangle.gui.theme import WARNING, theme_colours
from napari_disentangle.models import MODELS, ModelInfo
from napari_disentangle.particles import dimensions
from napari_disentangle.recipe import Recipe

if TYPE_CHECKING:
    from napari_disentangle.gui.workbench import Workbench

PRESETS = {
    "quick": ("quick look", "a few passes at 16 voxels; poses stay rough"),
    "standard": ("standard", "poses searched against each group's average, then finer passes"),
    "thorough": ("thorough", "three times as long as standard"),
    "paper": ("as published", "the settings of the method's paper; hours on a CPU"),
}
STATES = {
    "idle": "Not trained yet.",
    "starting": "Starting…",
    "running": "Training.",
    "stopping": "Stopping after this step; the model is kept…",
    "paused": "Paused; Resume goes on at that very step.",
    "stopped": "Stopped; the model is kept, and Resume goes on.",
    "finished": "Finished.",
    "failed": "Failed.",
    "cut off": "Cut off before the end.",
}


class TrainingPanel(QWidget):
    """The second room: start, watch, pause, stop and keep, resume.

    Parameters
    ----------
    bench : Workbench
    """

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = bench
        self._size = 0
        self.problem = ProblemLine()
        self.log = button("Log", "Open what the training process printed", self._open_log)
        self.problem.add_remedy(self.log)
        self.model = QComboBox()
        self._list_models()
        self.about = words(dim=True)
        self.preset = QComboBox()
        for name, (title, about) in PRESETS.items():
            self.preset.addItem(title, name)
            self.preset.setItemData(self.preset.count() - 1, about, Qt.ItemDataRole.ToolTipRole)
        self.preset.setToolTip("How thoroughly to train")
        self.preset_about = words(dim=True)
        self.device = QComboBox()
        self.device.addItems(["auto", "cpu", "cuda", "mps"])
        self.device.setToolTip(
            "Where to train: auto takes a GPU where there is one; a GPU that is named and missing is an error"
        )
        self.whom = QComboBox()
        self.whom.addItems(["all particles", "the selection"])
        self.whom.setToolTip("Train on all particles that were opened, or again on the selection alone")
        self.cost = words("")
        self.start = button("Start", "Make a new run and train it", self._start, strong=True)
        self.pause = button(
            "Pause", "Stop after this step and free the memory; Resume goes on there", bench.trainer.pause
        )
        self.stop = button("Stop and keep", "Stop after this step; the model is kept as it is", bench.trainer.stop)
        self.resume = button("Resume", "Go on training this run", self._resume)
        self.state = words("")
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.setToolTip("Steps done of all")
        self.rates = words("")
        self.losses = LossPlot()
        self.losses.setMinimumHeight(140)
        self.losses.setMaximumHeight(200)
        self.watched = Gallery(columns=4, side=44)
        self.learnt = words("")
        self.doubts = words("")
        self.doubts.setStyleSheet(f"QLabel {{ color: {WARNING}; }}")
        self._settings = settings_form({"model": Recipe().model, "training": Recipe().training})
        self._defaults: dict[str, Any] = {}
        self._unasked = False
        """Whether an estimate has to wait for the end of a training."""
        self._estimating = QTimer(self)
        self._estimating.setSingleShot(True)
        self._estimating.setInterval(400)
        self._estimating.timeout.connect(self._ask_estimate)
        self._build()
        self._links = Links(self)
        for signal, slot in (
            (bench.trainer.changed, self._show_state),
            (bench.trainer.anew, self._clear_losses),
            (bench.trainer.events, self._show_events),
            (bench.training.estimated, self._show_estimate),
            (bench.training.prepared, self._show_state),
            (bench.training.learnt, self._show_learnt),
            (bench.training.reconstructed, self._show_reconstructed),
            (bench.ready, self._show_where),
            (bench.problem, self._say_problem),
            (bench.session.source_changed, self._on_source),
            (bench.opening.previewed, self._on_preview),
            (bench.session.run_changed, self._new_run),
            (bench.session.selection_changed, self._show_whom),
            (bench.viewer.events.theme, self._set_theme),
        ):
            self._links.add(signal, slot)
        self._set_theme()
        self._offer_models()
        self._on_preset()
        self._show_state()
        self._show_whom()
        self.watched.set_message(bench.no_decoder)
        self._show_events(bench.trainer.told)
        self._show_learnt(*bench.training.last_learnt)
        if bench.training.last_reconstructed is not None:
            self._show_reconstructed(*bench.training.last_reconstructed)
        self._say_problem("training", bench.problems.get("training", ""))

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.setSpacing(4)
        advanced = QCollapsible("Advanced settings")
        advanced.setToolTip("Every setting that means something to the model; a preset sets them anew")
        advanced.addWidget(self._settings.native)
        for part in (
            self.problem, row("model", self.model, "preset", self.preset, 1), self.about, self.preset_about,
            row("train on", self.whom, "device", self.device, 1), self.cost, self.state, self.bar, self.rates, self.learnt,
            self.doubts, self.losses, self.watched, advanced,
        ):  # fmt: skip
            layout.addWidget(part)
        layout.addStretch(1)
        self.footer = row(self.start, self.pause, self.stop, self.resume, 1)
        self.model.currentIndexChanged.connect(self._on_preset)
        self.preset.currentIndexChanged.connect(self._on_preset)
        self.device.currentIndexChanged.connect(lambda _: self._estimating.start())
        self._settings.changed.connect(lambda _: self._estimating.start())

    def choose_preset(self, name: str) -> None:
        """Choose a preset by its name."""
        self.preset.setCurrentIndex(self.preset.findData(name))

    def _list_models(self) -> None:
        """List the papers' own models first, and below a line and a heading all others."""
        self.model.setToolTip("Which model is trained")
        self.model.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.model.setMinimumContentsLength(13)
        own = [info for info in MODELS.values() if info.first]
        others = [info for info in MODELS.values() if not info.first]
        for info in own:
            self.model.addItem(info.title, info.name)
        if others:
            self.model.insertSeparator(self.model.count())
            self.model.addItem("all methods")
            offer(self.model, self.model.count() - 1, offered=False, tooltip="Methods that these two are compared with")
        for info in others:
            self.model.addItem(info.title, info.name)

    def _offer_models(self) -> None:
        """Let only models be chosen that can take what is open."""
        open_dimensions = self._dimensions()
        fitting: list[int] = []
        for k in range(self.model.count()):
            name: str | None = self.model.itemData(k)
            if name is None:
                continue
            info = MODELS[name]
            fits = open_dimensions in info.dimensions
            offer(self.model, k, offered=fits, tooltip=info.summary if fits else misfit(info, open_dimensions))
            fitting += [k] if fits else []
        if fitting and self.model.currentIndex() not in fitting:
            self.model.setCurrentIndex(fitting[0])

    def _dimensions(self) -> int:
        """Return 2 where images are open, and 3 for volumes and while nothing is."""
        session = self._bench.session
        particles = session.particles if session.source is None else session.source.particles
        volumes = None if particles is None else particles.volumes
        return 3 if volumes is None else dimensions(volumes.shape)

    def _on_preset(self) -> None:
        info, name = MODELS[self.model.currentData()], self.preset.currentData()
        self.about.setText(info.summary)
        self.about.setToolTip(f"{info.summary}\n{info.citation}")
        self.preset_about.setText(PRESETS[name][1])
        recipe = Recipe.preset(name, info.name)
        values = {"model": recipe.model, "training": recipe.training}
        with self._settings.changed.blocked():
            for field in self._settings:
                section, _, key = field.name.partition(".")
                field.value = getattr(values[section], key)
                field.visible = info.heeds(field.name)
        self._defaults = {field.name: field.value for field in self._settings}
        self._estimating.start()

    def settings(self) -> list[str]:
        """Return the settings that differ from the preset's, and the model, as ``section.key=value``."""
        changed = [
            f"{field.name}={field.value}" for field in self._settings if field.value != self._defaults[field.name]
        ]
        return [f"model.name={self.model.currentData()}", *changed]

    # ---- before ------------------------------------------------------------------------------------------------

    def _ask_estimate(self) -> None:
        self._unasked = self._bench.trainer.active
        if self._bench.closed or self._unasked:
            return
        self.cost.setText(f"{self._where()}: timing a few steps…" if self._bench.session.source else self._where())
        self._bench.training.estimate(self.preset.currentData(), self.settings(), self.device.currentText())

    def _where(self) -> str:
        words = self._bench.device_words
        return words if words else "starting PyTorch…"

    def _show_estimate(self, found: dict[str, Any] | None) -> None:
        if found is None:
            self.cost.setText(self._where())
            return
        self.cost.setText(f"{found['words']}: about {duration(found['seconds'])}, {found['memory_gb']:.1f} GB")

    def _start(self) -> None:
        self._bench.training.train(
            self.preset.currentData(),
            self.settings(),
            self.device.currentText(),
            selected=self.whom.currentIndex() == 1,
        )

    def _resume(self) -> None:
        self._bench.training.resume(self.device.currentText())

    def _show_whom(self) -> None:
        chosen = self._bench.session.selection
        count = 0 if chosen is None else len(chosen)
        self.whom.setItemText(1, f"the selection ({count:,})")

    # ---- while it trains ---------------------------------------------------------------------------------------

    def _clear_losses(self) -> None:
        self.losses.clear()
        self._size = 0

    def _new_run(self) -> None:
        self._clear_losses()
        self.watched.clear()
        self.watched.set_message(self._bench.no_decoder)
        self._offer_models()
        self._show_learnt([], [])
        self.rates.setText("")
        self._show_state()

    def _show_state(self) -> None:
        trainer, run = self._bench.trainer, self._bench.session.run
        active, state = trainer.active, trainer.state
        if self._unasked and not active:
            self._estimating.start()
        elsewhere = "" if trainer.ours or not active else " (started elsewhere)"
        name = "" if run is None else f"{run.path.name}: "
        self.state.setText(name + STATES[state] + elsewhere)
        self.start.setEnabled(not active and not self._bench.training.preparing)
        self.pause.setEnabled(active and state != "stopping")
        self.stop.setEnabled(active and state != "stopping")
        self.resume.setEnabled(
            not active and run is not None and state in ("paused", "stopped", "cut off", "failed", "idle")
        )
        for part in (self.bar, self.rates):
            part.setVisible(run is not None)
        has_losses = run is not None and state != "idle"
        self.losses.setVisible(has_losses)
        self.watched.setVisible(has_losses)
        self.log.setVisible(trainer.log is not None)
        if state == "starting":
            fill(self.bar, 0, text="")
        elif not active:
            fill(self.bar, 100, text="done") if state == "finished" else fill(self.bar, 0)
            self.rates.setText("")

    def _show_events(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            kind = event["event"]
            if kind in ("progress", "epoch") and event.get("losses"):
                size = event.get("size", self._size)
                self.losses.add(
                    event["step"], event["losses"], gap=kind == "epoch" and size != self._size and self._size > 0
                )
                self._size = size
        self.losses.redraw()  # now, with the words below: one painting of the window and not two
        shown = [e for e in events if e["event"] in ("progress", "epoch", "posing", "notice")]
        if shown and self._bench.trainer.active:
            self._show_progress(shown[-1])

    def _show_progress(self, event: dict[str, Any]) -> None:
        if event["event"] == "posing":
            fill(self.bar, 100 * event["done"], text="groups and poses: %p%")
            self.rates.setText(event["message"])
        elif event["event"] == "notice":
            self.rates.setText(event["message"])
        else:
            text = f"epoch {event['epoch']} of {event['epochs']}, step {event['step']} of {event['steps']}"
            fill(self.bar, event["step"], event["steps"], text)
            left = "" if event["eta_seconds"] is None else f"; {duration(event['eta_seconds'])} left"
            self.rates.setText(f"{event['particles_per_second']:.0f} particles/s{left}; {event['memory_gb']:.1f} GB")

    def _show_reconstructed(self, raw: Any, decoded: Any) -> None:
        pictures = [central(one) for one in (*raw, *decoded)]
        captions = ["particle"] * len(raw) + ["decoded"] * len(decoded)
        tips = [f"central slice of a particle{how_shown(self._bench.session.particles)}"] * len(raw)
        tips += ["the same particle by the model (model, not data)"] * len(decoded)
        scaled = [(p - np.mean(p)) / (np.std(p) or 1.0) for p in pictures]
        self.watched.set_pictures(scaled, captions, tooltips=tips, shared_scale=False)

    def _show_learnt(self, found: list[str], doubts: list[str]) -> None:
        self.learnt.setText("\n".join(found))
        self.learnt.setVisible(bool(found))
        self.doubts.setText("\n".join(f"! {doubt}" for doubt in doubts))
        self.doubts.setVisible(bool(doubts))

    def _say_problem(self, room: str, text: str) -> None:
        if room == "training":
            self.problem.say(text)
            self.log.setVisible(self._bench.trainer.log is not None)

    def _set_theme(self, event: Any = None) -> None:
        del event
        self.losses.set_theme(*theme_colours(self._bench.viewer.theme))

    def _on_source(self) -> None:
        self._offer_models()
        self._estimating.start()

    def _on_preview(self, found: object) -> None:
        if found is not None:  # by the diameter that was given
            self._estimating.start()

    def _show_where(self, _: str) -> None:
        self._estimating.start()

    def dispose(self) -> None:
        """Listen no more."""
        self._links.drop()
        self._estimating.stop()

    def _open_log(self) -> None:
        if self._bench.trainer.log is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._bench.trainer.log)))


def duration(seconds: float) -> str:
    """Return a time in words, no more exact than it is known."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def misfit(info: ModelInfo, dimensions: int) -> str:
    """Return why a model cannot take what is open: images have 2 `dimensions`, volumes 3."""
    kinds = {2: "images", 3: "volumes"}
    takes = " and ".join(kinds[k] for k in info.dimensions)
    return f"{info.title} takes {takes} only, and {kinds.get(dimensions, 'something else')} are open."
