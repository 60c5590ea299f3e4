"""Measure the window: how late it answers, how fast its docks open, and whether it leaves anything behind.

    python benchmarks/window.py lag [--minutes 5] [--blame]
    python benchmarks/window.py docks [--repeats 3]
    python benchmarks/window.py rounds [--rounds 20]

Each also takes --out DIR, into which it writes all that it measured as JSON. Without a screen, it starts Xvfb; what is
drawn there is drawn by the processor, which is part of the times.

lag: a timer of 5 ms in napari's event loop; how late it comes is how long a click or a key would have waited. While it
runs, the sample is opened, trained with the standard preset and many more fine epochs, looked at, selected in,
averaged, stopped and resumed, with the mouse. The sums are of everything from the first click of training on, without
the phases in which the mouse drags all the time, and with them; at the end napari does the like without our docks,
for what of it is napari's and the machine's. "busy" is the processor time of the GUI's own thread between two ticks,
less 5 ms; "queued" the time that it could have run and had no core. What is late and neither, it waited for others: for
what draws, for another thread, for a file. "others" are cores that processes not of this benchmark used. With --blame,
a thread looks at what the GUI's thread does while it is late.

docks: from asking napari for a dock until it has been painted, until all that it builds afterwards is there, and the
longest turn of the event loop meanwhile. First, in a fresh process, with all imports; then again, closed and opened.

rounds: all docks opened and closed in one viewer, and viewers opened with all docks and closed; a trained run is shown
in them. The same number of viewers without docks, for what napari itself leaves.
"""

from __future__ import annotations

import argparse
import compileall
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PLUGIN = "napari-disentangle"
DOCKS = ("Particles", "Training", "Latent maps", "Averages", "Disentangle (all panels)")
ALL = DOCKS[-1]
SIZE = (1280, 800)
INTERVAL, LATE = 0.005, 0.030
"""Seconds between ticks, and how late one is blamed on somebody."""
TARGETS = {"p99": 0.020, "max": 0.100, "dock": 0.5}
"""In seconds."""
APART = ("opening the docks", "importing torch", "idle", "opening the sample")
"""Phases before the first click of training; docks have a target of their own."""
DRAGGED = (
    "training, zooming the map", "training, drawing lassos", "training, turning the average", "trained, drawing lassos",
    "trained, turning the average",
)  # fmt: skip
"""Phases in which something is drawn anew all the time, because the mouse moves."""
ALONE = (
    "napari alone, opening the sample", "napari alone, going to points", "napari alone, dragging its canvas"
)  # fmt: skip
"""What napari takes for the same without any dock of ours, at the end of the same run."""


@contextmanager
def screen() -> Generator[None]:
    """Make sure that there is a screen, and that nothing of the user's settings is read or changed."""
    os.environ.setdefault("QT_API", "pyqt6")
    os.environ["NAPARI_CONFIG"] = ""
    if os.environ.get("DISPLAY") or sys.platform != "linux":
        yield
        return
    os.environ.pop("WAYLAND_DISPLAY", None)
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    words = ["Xvfb", "-displayfd", "1", "-screen", "0", "1600x1200x24", "-nolisten", "tcp"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            os.environ["DISPLAY"] = f":{server.stdout.readline().strip()}"
            yield
        finally:
            del os.environ["DISPLAY"]
            server.terminate()


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    from importlib.metadata import version

    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version(),
        "load": [round(one, 1) for one in os.getloadavg()], "napari": version("napari"),
        "qt": f"{os.environ['QT_API']} {version(os.environ['QT_API'])}",
        "commit": subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip(),
    }  # fmt: skip


def renderer() -> str:
    """Return what draws."""
    from napari._vispy.utils.gl import _opengl_context
    from vispy.gloo import gl

    with _opengl_context():
        return str(gl.glGetParameter(gl.GL_RENDERER))


def until(condition: Callable[[], Any], seconds: float, what: str = "") -> None:
    """Let the event loop run until a condition holds, looked at every 20 ms."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer, end = QEventLoop(), QTimer(), time.perf_counter() + seconds
    timer.setInterval(20)
    timer.timeout.connect(lambda: loop.quit() if condition() or time.perf_counter() > end else None)
    timer.start()
    if not condition():
        loop.exec()
    timer.stop()
    if what and not condition():
        raise SystemExit(f"waited {seconds:.0f} s for {what}, in vain")


def wait(seconds: float) -> None:
    """Let the event loop run."""
    until(lambda: False, seconds)


def clear_up() -> None:
    """Have all deleted that is to be."""
    from qtpy.QtCore import QCoreApplication, QEvent

    for _ in range(3):
        wait(0.05)
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()


def new_viewer() -> Any:
    """Return a viewer of the usual size whose window has been shown and painted."""
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    wait(1.0)
    return viewer


def open_dock(viewer: Any, name: str) -> Any:
    """Return the widget in a dock of the plugin, opened if it is not there."""
    return viewer.window.add_plugin_dock_widget(PLUGIN, name)[1]


# ---- lag -----------------------------------------------------------------------------------------------------------


class Lag:
    """How late the ticks of a timer come, and in which phase."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.phase = "start"
        self.ticks: list[tuple[str, float, float, float, float]] = []
        """Phase, time, lag, busy and queued, in seconds."""
        self.began: dict[str, float] = {}
        self.seconds: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.last, self._used, self._waited = time.perf_counter(), time.thread_time(), self._queued()
        self._machine = self._cores()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(round(1000 * INTERVAL))
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now, used, waited = time.perf_counter(), time.thread_time(), self._queued()
        late, busy = now - self.last - INTERVAL, used - self._used - INTERVAL
        self.ticks.append((self.phase, now, max(late, 0.0), max(busy, 0.0), waited - self._waited))
        self.last, self._used, self._waited = now, used, waited

    @staticmethod
    def _queued() -> float:
        """Return the seconds that this thread could have run and had no core; 0 where the system does not tell."""
        try:
            return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
        except OSError:
            return 0.0

    def at(self, phase: str) -> None:
        """Begin a phase, once the last one's work has been seen by a tick."""
        ticks = len(self.ticks)
        until(lambda: len(self.ticks) > ticks, 60)
        now, cores = time.perf_counter(), self._cores()
        if self.began:
            self.seconds[self.phase] += now - self.began[self.phase]
            self.others[self.phase] += max((cores[0] - cores[1]) - (self._machine[0] - self._machine[1]), 0.0)
        self._machine = cores
        self.phase = phase
        self.began[phase] = now
        print(f"  {now - next(iter(self.began.values())):6.1f} s  {phase}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """End the last phase."""
        self.at("end")
        self._timer.stop()

    @staticmethod
    def _cores() -> tuple[float, float]:
        """Return the seconds that all processes have used, and ours among them."""
        every = psutil.cpu_times()
        ours = 0.0
        for one in (this := psutil.Process(), *this.children(recursive=True)):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            ours += times.user + times.system + (times.children_user + times.children_system if one is this else 0.0)
        return every.user + every.nice + every.system, ours

    def of(self, phases: list[str]) -> dict[str, Any]:
        """Return what was seen in some phases."""
        late = np.array([lag for phase, _, lag, *_ in self.ticks if phase in phases])
        busy = np.array([busy for phase, _, _, busy, _ in self.ticks if phase in phases])
        seconds = sum(self.seconds[phase] for phase in phases)
        if not len(late) or not seconds:
            return {}
        return {
            "seconds": seconds, "ticks": len(late), "p50": float(np.percentile(late, 50)),
            "p99": float(np.percentile(late, 99)), "max": float(late.max()), "over 100 ms": int((late > 0.1).sum()),
            "busy p99": float(np.percentile(busy, 99)), "busy max": float(busy.max()),
            "others": sum(self.others[phase] for phase in phases) / seconds,
        }  # fmt: skip


class Blame:
    """Looks from a thread at what the GUI's thread does while it is late."""

    def __init__(self, lag: Lag) -> None:
        self._lag, self._main = lag, threading.main_thread().ident
        self.stalls: list[tuple[str, float, float, tuple[str, ...]]] = []
        """Phase, time, seconds without a tick, and where the thread was most often seen; the innermost call first."""
        self._collecting = 0.0
        self._ended = threading.Event()
        gc.callbacks.append(self._collects)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _collects(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting = now
        elif now - self._collecting > 0.01:
            where = f"garbage collection, generation {info['generation']}", threading.current_thread().name
            self.stalls.append((self._lag.phase, now, now - self._collecting, where))

    def _watch(self) -> None:
        while not self._ended.wait(0.004):
            tick, seen, phase = self._lag.last, Counter[tuple[str, ...]](), self._lag.phase
            while self._lag.last == tick and not self._ended.is_set():
                if time.perf_counter() - tick > INTERVAL + 0.010:
                    seen[self._where()] += 1
                time.sleep(0.004)
            if (without := self._lag.last - tick) > INTERVAL + LATE and seen:
                self.stalls.append((phase, self._lag.last, without, seen.most_common(1)[0][0]))

    def _where(self) -> tuple[str, ...]:
        frame, calls = sys._current_frames().get(self._main), list[str]()
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            calls.append(f"{path.parent.name}/{path.name}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back
        return tuple(calls)

    def stop(self) -> None:
        """Look no longer."""
        self._ended.set()
        self._thread.join()
        gc.callbacks.remove(self._collects)

    def text(self, most: int = 40) -> str:
        """Return the stalls by who was at it, the longest sum first."""
        groups: dict[tuple[str, str], list[tuple[float, tuple[str, ...]]]] = {}
        for phase, _, seconds, calls in self.stalls:
            ours = next((call for call in calls if call.startswith("gui/")), calls[0] if calls else "?")
            groups.setdefault((phase, ours), []).append((seconds, calls))
        lines = list[str]()
        for (phase, ours), found in sorted(groups.items(), key=lambda g: -sum(s for s, _ in g[1]))[:most]:
            longest = max(found)
            total = sum(seconds for seconds, _ in found)
            lines.append(
                f"{1000 * total:7.0f} ms in {len(found):3}, longest {1000 * longest[0]:5.0f}  [{phase}] {ours}"
            )
            inner = longest[1][: longest[1].index(ours)] if ours in longest[1] else ()
            lines += [f"{'':24}< {call}" for call in inner[:6]]
        return "\n".join(lines)


class Hands:
    """What a user does with the mouse, at a human pace."""

    def __init__(self, bench: Any, rooms: Any, maps: Any) -> None:
        self.bench, self.rooms, self.maps = bench, rooms, maps
        self._random = np.random.default_rng(0)

    def click(self, widget: Any) -> None:
        """Press a button."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        until(widget.isEnabled, 30, f"{widget.text()} to be enabled")
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)

    def drag(self, native: Any, pixels: np.ndarray) -> None:
        """Press, move through some places (k, 2), up to fifty a second, and let go."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        places = [QPoint(round(float(x)), round(float(y))) for x, y in pixels]
        QTest.mousePress(native, Qt.MouseButton.LeftButton, pos=places[0])
        for place in places[1:]:
            QTest.mouseMove(native, place)
            wait(0.01)
        QTest.mouseRelease(native, Qt.MouseButton.LeftButton, pos=places[-1])

    def point_at(self) -> None:
        """Click a point of the map of content."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        view = self.maps.content
        self.click(self.maps.tools["pan"])
        wait(0.2)
        row = self._random.integers(len(view.coordinates))
        x, y = view.canvas.to_pixels(view.coordinates[row])[0]
        QTest.mouseClick(view.canvas.native, Qt.MouseButton.LeftButton, pos=QPoint(round(x), round(y)))

    def lasso(self) -> None:
        """Draw around about half of the points."""
        view = self.maps.content
        self.click(self.maps.tools["lasso"])
        wait(0.2)
        pixels = view.canvas.to_pixels(view.coordinates)
        pixels = pixels[np.isfinite(pixels).all(1)]
        low, high = pixels.min(0) - 6, np.quantile(pixels, [0.6, 1.0], axis=0)[[0, 1], [0, 1]] + 6
        corners = np.array([low, (high[0], low[1]), high, (low[0], high[1]), low])
        corners = np.clip(corners, 1, [view.canvas.width() - 2, view.canvas.height() - 2])
        self.drag(view.canvas.native, np.concatenate([np.linspace(a, b, 15) for a, b in pairwise(corners)]))

    def zoom(self) -> None:
        """Turn the wheel over the map, in and out again."""
        from qtpy.QtCore import QPoint, QPointF, Qt
        from qtpy.QtGui import QWheelEvent
        from qtpy.QtWidgets import QApplication

        native = self.maps.content.canvas.native
        at = QPointF(native.width() / 3, native.height() / 3)
        for angle in [120] * 8 + [-120] * 8:
            event = QWheelEvent(
                at, QPointF(native.mapToGlobal(at.toPoint())), QPoint(), QPoint(0, angle), Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
            )  # fmt: skip
            QApplication.sendEvent(native, event)
            wait(0.05)

    def turn(self) -> None:
        """Turn the average."""
        native = self.rooms.averages.volumes.canvas.native
        width, height = native.width() / 3, native.height()
        turns = np.linspace(0, 2 * np.pi, 60)
        self.drag(native, np.stack([width / 2 * (1 + 0.6 * np.cos(turns)), height / 2 * (1 + 0.6 * np.sin(turns))], 1))

    def average(self, button: Any) -> None:
        """Press a button of the averages, and wait for them."""
        session = self.bench.session
        before = dict(session.averages)
        self.click(button)
        until(lambda: any(before.get(k) is not v for k, v in session.averages.items()), 300, "an average")
        wait(2)


def live(lag: Lag, viewer: Any, minutes: float) -> dict[str, int]:
    """Do all that a user does; return how often."""
    done = Counter[str]()
    share = 60 * minutes / 100
    lag.at("opening the docks")
    panels = open_dock(viewer, ALL)
    until(lambda: panels.isVisible() and not panels.bench.turns, 10, "the docks")
    wait(0.5)
    bench, rooms = panels.bench, panels.panel
    hands = Hands(bench, rooms, next(one for name, one in viewer.window.dock_widgets.items() if "maps" in name).panel)
    bench.trainer.events.connect(lambda events: done.update(e["event"] for e in events))
    bench.session.maps_changed.connect(lambda: done.update(["maps_changed"]))
    bench.results.particle_shown.connect(lambda _: done.update(["particle_shown"]))
    problems = list[str]()
    bench.problem.connect(lambda room, words: problems.append(f"{room}: {words}") if words else None)
    view, session = hands.maps.content, bench.session

    def times(seconds: float, every: float, act: Callable[[], None], name: str) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            act()
            done[name] += 1
            wait(max(every - (time.perf_counter() - began), 0.02))

    def stop_and_keep() -> None:
        lag.at("stop and keep")
        rooms.tabs.setCurrentIndex(1)
        hands.click(rooms.training.stop)
        until(lambda: bench.trainer.state == "stopped", 120, "the end of training")

    lag.at("importing torch")
    until(lambda: bench.device_words, 180, "the helper")
    helper = psutil.Process(bench.helper.pid)
    used = [0.0]

    def quiet() -> bool:  # UMAP has been compiled
        before, used[0] = used[0], sum(helper.cpu_times()[:2])
        return used[0] - before < 0.02

    while not quiet():
        wait(1.0)
    lag.at("idle")
    wait(6 * share)
    lag.at("opening the sample")
    hands.click(rooms.particles.sample_button)
    until(lambda: bench.opening.preview is not None, 120, "boxes")
    wait(2)
    lag.at("starting to train")
    rooms.tabs.setCurrentIndex(1)
    rooms.training.choose_preset("standard")
    for field in rooms.training._settings:
        if field.name in ("training.fine_epochs", "training.checkpoint_every"):
            field.value = 20_000 if field.name.endswith("fine_epochs") else 6
    hands.click(rooms.training.start)
    until(lambda: bench.trainer.state == "running", 120, "training")
    lag.at("training, looked at")
    until(lambda: session.coordinates("content", "pca") is not None, 240, "the first map")
    wait(14 * share)
    lag.at("training, zooming the map")
    times(4 * share, 2.0, hands.zoom, "zooms")
    lag.at("training, clicking points")
    times(10 * share, 1.5, hands.point_at, "points clicked")
    lag.at("training, drawing lassos")
    times(8 * share, 2.5, hands.lasso, "lassos")
    until(lambda: session.selection is not None and len(session.selection), 20, "a selection")
    lag.at("training, UMAP")
    bench.results.map("content", "umap")
    until(lambda: view.described == "content (umap)", 120, "UMAP")
    wait(3 * share)
    lag.at("training, averaging")
    rooms.tabs.setCurrentIndex(2)
    hands.average(rooms.averages.make)
    lag.at("training, turning the average")
    until(lambda: rooms.averages.volumes.canvas is not None, 20, "surfaces")
    times(5 * share, 2.0, hands.turn, "turns")
    stop_and_keep()
    lag.at("grouping, UMAP")
    until(lambda: rooms.training.learnt.text(), 180, "what was learnt")
    wait(3 * share)
    lag.at("resume")
    hands.click(rooms.training.resume)
    until(lambda: bench.trainer.state == "running", 120, "training again")
    checkpoints = done["checkpoint"]
    until(lambda: done["checkpoint"] > checkpoints, 120, "a checkpoint after resuming")
    wait(5 * share)
    lag.at("training, refining alignment")
    rooms.tabs.setCurrentIndex(2)
    hands.average(rooms.averages.refine)
    stop_and_keep()
    lag.at("grouping, UMAP")
    until(lambda: not bench.helper.busy, 120, "maps")
    wait(3 * share)
    lag.at("trained, clicking points")
    times(8 * share, 1.0, hands.point_at, "points clicked")
    lag.at("trained, drawing lassos")
    times(8 * share, 2.5, hands.lasso, "lassos")
    lag.at("trained, averaging")
    rooms.tabs.setCurrentIndex(2)
    hands.average(rooms.averages.make)
    lag.at("trained, turning the average")
    times(3 * share, 2.0, hands.turn, "turns")
    lag.at("closing the docks")
    viewer.window.remove_dock_widget("all")
    viewer.layers.clear()
    wait(3)
    lag.at(ALONE[0])
    viewer.open_sample(PLUGIN, "tomogram")
    wait(3)
    lag.at(ALONE[1])
    places = iter(viewer.layers["Particles"].data)

    def go() -> None:
        place = next(places)
        viewer.dims.set_point(0, place[0])
        viewer.camera.center = tuple(place)

    times(4 * share, 1.0, go, "sections")
    lag.at(ALONE[2])
    native = viewer.window._qt_viewer.canvas.native
    around = np.linspace(0, 2 * np.pi, 60)
    middle = np.array([native.width(), native.height()]) / 2
    times(
        4 * share, 2.0, lambda: hands.drag(native, middle + 40 * np.stack([np.cos(around), np.sin(around)], 1)), "drags"
    )
    lag.stop()
    if problems:
        print("problems told:", *problems, sep="\n  ")
    return dict(done)


def end(viewer: Any) -> None:
    """Close a viewer, and do not leave before its training has ended."""
    from napari_disentangle.gui.window import workbench_of

    bench = workbench_of(viewer)
    bench.close()
    viewer.close()
    until(lambda: bench.trainer.pid is None, 120)
    clear_up()


def lag(a: argparse.Namespace) -> dict[str, Any]:
    """Measure how late the event loop comes round."""
    from napari_disentangle import sample

    with screen(), tempfile.TemporaryDirectory(prefix="disentangle-benchmark-") as folder:
        sample.sample_folder = lambda: Path(folder)
        viewer = new_viewer()
        about = machine() | {"renderer": renderer()}
        seen = Lag()
        blame = Blame(seen) if a.blame else None
        try:
            done = live(seen, viewer, a.minutes)
        finally:
            if blame is not None:
                blame.stop()
            end(viewer)
    phases = [phase for phase in seen.seconds if phase != "end"]
    rows = {phase: seen.of([phase]) for phase in phases}
    asked = [phase for phase in phases if phase not in (*APART, *ALONE, "closing the docks")]
    rows["from training on"] = total = seen.of([phase for phase in asked if phase not in DRAGGED])
    rows["and with all dragging"] = seen.of(asked)
    about["load at the end"] = [round(one, 1) for one in os.getloadavg()]
    print(*(f"{key}: {value}" for key, value in about.items()), sep="; ")
    print("done:", ", ".join(f"{count} {what}" for what, count in sorted(done.items())))
    print(
        f"{'milliseconds':34}{'s':>6}{'p50':>7}{'p99':>7}{'max':>7}{'>100':>6}{'busy p99':>10}{'busy max':>10}{'others':>8}"
    )
    for phase, row in rows.items():
        values = (1000 * row[key] for key in ("p50", "p99", "max"))
        print(
            f"{phase:34}{row['seconds']:6.0f}", *(f"{value:6.1f}" for value in values), f"{row['over 100 ms']:5}",
            f"{1000 * row['busy p99']:9.1f}", f"{1000 * row['busy max']:9.1f}", f"{row['others']:7.1f}",
        )  # fmt: skip
    for name in ("p99", "max"):
        verdict = "met" if total[name] <= TARGETS[name] else "missed"
        print(f"from training on, {name} {1000 * total[name]:.1f} ms, target {1000 * TARGETS[name]:.0f}: {verdict}")
    if blame is not None:
        print("late by more than 30 ms, by the innermost call of ours:", blame.text(), sep="\n")
    worst = sorted(seen.ticks, key=lambda tick: -tick[2])[:100]
    print("the latest ticks from training on, in ms (busy, queued):", end=" ")
    latest = [tick for tick in worst if tick[0] in asked][:8]
    print(
        *(f"{1000 * late:.0f} ({1000 * busy:.0f}, {1000 * queued:.0f}) {p}" for p, _, late, busy, queued in latest),
        sep="; ",
    )
    return {
        "about": about, "done": done, "phases": rows,
        "worst": [{"phase": p, "at": at, "lag": late, "busy": busy, "queued": queued} for p, at, late, busy, queued in worst],
        "stalls": [] if blame is None else [{"phase": p, "seconds": s, "calls": c} for p, _, s, c in blame.stalls],
    }  # fmt: skip


# ---- docks ---------------------------------------------------------------------------------------------------------


def painted(viewer: Any, name: str) -> dict[str, float]:
    """Open a dock; return the seconds until it is painted, until all is built and painted, and of the longest turn.

    What is built when the dock is there already comes in turns of the event loop of its own; the first turn is the call
    that opens the dock.
    """
    from qtpy.QtCore import QEvent, QObject
    from qtpy.QtWidgets import QApplication, QWidget

    class Painted(QObject):
        """Sees which widgets are painted."""

        def __init__(self) -> None:
            super().__init__()
            self.names: set[int] = set()

        def eventFilter(self, a0: Any, a1: Any) -> bool:
            if a1.type() in (QEvent.Type.Paint, QEvent.Type.UpdateRequest) and isinstance(a0, QWidget):
                self.names.add(id(a0))
            return False

    began = time.perf_counter()
    turns = list[float]()

    def turn(act: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = act()
        turns.append(time.perf_counter() - start)
        return result

    widget = turn(lambda: open_dock(viewer, name))
    eyes = Painted()
    widget.installEventFilter(eyes)
    while not eyes.names:
        turn(QApplication.processEvents)
    turn(QApplication.processEvents)  # what the painting itself asked for
    shown = time.perf_counter() - began
    while widget.bench.turns:
        turn(QApplication.processEvents)
    turn(QApplication.processEvents)
    every = time.perf_counter() - began
    while time.perf_counter() < began + every + 0.3:  # what is drawn for the first time now
        turn(QApplication.processEvents)
    return {"shown": shown, "all": every, "longest": max(turns)}


def dock_once(name: str) -> dict[str, Any]:
    """Open one dock in a napari that is up: first, and after closing it."""
    from qtpy.QtWidgets import QApplication

    before = set(sys.modules)
    viewer = new_viewer()
    QApplication.processEvents()
    napari_has = set(sys.modules)
    used = time.process_time()
    first = painted(viewer, name)
    used = time.process_time() - used
    new = sorted(set(sys.modules) - napari_has)
    later = list[dict[str, float]]()
    for _ in range(5):
        viewer.window.remove_dock_widget("all")
        clear_up()
        later.append(painted(viewer, name))
    viewer.close()
    clear_up()
    return {
        "first": first, "processor": used, "later": later,
        "modules": Counter(one.partition(".")[0] for one in new).most_common(6), "napari": len(napari_has - before),
    }  # fmt: skip


def docks(a: argparse.Namespace) -> dict[str, Any]:
    """Measure how long a dock takes to be there, in fresh processes."""
    # As pip leaves it: with PYTHONDONTWRITEBYTECODE set, a checkout would be compiled at each import.
    compileall.compile_dir(Path(__file__).parents[1] / "src", quiet=1)
    with screen():
        about = machine()
        print(*(f"{key}: {value}" for key, value in about.items()), sep="; ")
        print(
            f"{'seconds':26}{'first, of ' + str(a.repeats):>18}{'all of it':>18}{'longest turn':>18}{'processor':>11}"
            f"{'again':>7}{'longest':>9}  load"
        )
        found: dict[str, Any] = {}
        for name in a.names:
            runs = [_again("docks", "--once", name) for _ in range(a.repeats)]
            found[name] = runs
            columns = [sorted(run["first"][key] for run in runs) for key in ("shown", "all", "longest")]
            later = [one for run in runs for one in run["later"]]
            print(
                f"{name:26}" + "".join(f"{' '.join(f'{s:.2f}' for s in column):>18}" for column in columns),
                f"{np.median([run['processor'] for run in runs]):10.2f}"
                f"{np.median([one['shown'] for one in later]):7.2f}{max(one['longest'] for one in later):9.2f}"
                f"  {os.getloadavg()[0]:.1f}"
                f"{'' if np.median(columns[2]) < TARGETS['dock'] else '  over ' + str(TARGETS['dock']) + ' s'}",
                flush=True,
            )
    return {"about": about, "docks": found}


def _again(*words: str) -> Any:
    """Run this file again, in a process of its own, and return the JSON that it prints last."""
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}\n{done.stdout}")
    *_, last = done.stdout.strip().splitlines()
    return json.loads(last)


# ---- rounds --------------------------------------------------------------------------------------------------------


def counted() -> dict[str, float]:
    """Return what there is in this process."""
    from napari._qt.qt_viewer import QtViewer
    from qtpy.QtWidgets import QApplication

    clear_up()
    this = psutil.Process()
    return {
        "widgets": len(QApplication.allWidgets()), "windows": len(QApplication.topLevelWidgets()),
        "threads": this.num_threads(), "processes": len(this.children(recursive=True)),
        "viewers": len(QtViewer._instances), "MB": round(this.memory_info().rss / 1e6, 1),
    }  # fmt: skip


def rounds_of(part: str, count: int, run: Path | None) -> list[dict[str, float]]:
    """Open and close docks or viewers, and count after each round."""
    from napari_disentangle.gui.window import workbench_of

    def fill(viewer: Any) -> None:
        for name in DOCKS[::-1]:
            open_dock(viewer, name)
        bench = workbench_of(viewer)
        until(lambda: not bench.turns, 10, "the panels")
        if bench.session.run is None and run is not None:
            bench.opening.open(run)
        until(lambda: bench.session.averages and bench.session.maps, 60, "the run")
        wait(0.5)

    seen: list[dict[str, float]] = []
    viewer = new_viewer() if part == "docks" else None
    for _ in range(count):
        one = viewer or new_viewer()
        if part != "bare":
            fill(one)
        if viewer is None:
            one.close()
        else:
            viewer.window.remove_dock_widget("all")
        del one
        seen.append(counted())
    if viewer is not None:
        viewer.close()
    clear_up()
    return seen


def trained(folder: Path) -> Path:
    """Return a run that is trained, grouped and averaged, quickly."""
    from napari_disentangle.sample import write_sample_stack

    write_sample_stack(folder / "stack")
    words: tuple[tuple[str, ...], ...] = (
        ("train", str(folder / "stack" / "particles.star"), str(folder / "run"), "--set", "training.epochs=1",
         "--set", "training.fine_epochs=0", "--set", "pose.search=false"),
        ("embed", str(folder / "run"), "--on", "content", "--method", "umap"),
        ("cluster", str(folder / "run"), "--on", "content", "-k", "3", "--name", "auto"),
        ("average", str(folder / "run"), "--selection", "auto/0"),
    )  # fmt: skip
    for one in words:
        subprocess.run(
            [sys.executable, "-m", "napari_disentangle", *one],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return folder / "run"


def rounds(a: argparse.Namespace) -> dict[str, Any]:
    """Count what is there after each round, and say what has grown."""
    found: dict[str, Any] = {}
    with screen(), tempfile.TemporaryDirectory(prefix="disentangle-benchmark-") as folder:
        about = machine()
        print(*(f"{key}: {value}" for key, value in about.items()), sep="; ")
        run = trained(Path(folder))
        titles = {
            "docks": "all docks opened and closed in one viewer", "viewers": "viewers with all docks, opened and closed",
            "bare": "viewers without docks",
        }  # fmt: skip
        for part in a.parts:
            found[part] = seen = _again("rounds", "--part", part, "--rounds", str(a.rounds), "--run", str(run))
            print(f"{a.rounds} {titles[part]}: after the 2nd, the middle and the last round")
            for key in seen[0]:
                some = [seen[k][key] for k in (min(1, len(seen) - 1), len(seen) // 2, -1)]
                note = ""
                if key == "MB":
                    slope = float(
                        np.polyfit(np.arange(len(seen) // 2), [s[key] for s in seen[-(len(seen) // 2) :]], 1)[0]
                    )
                    note = f"{slope:+.1f} MB a round in the second half"
                elif some[-1] > some[0]:
                    note = "GROWS"
                print(f"    {key:10}" + "".join(f"{value:10g}" for value in some) + f"  {note}", flush=True)
    return {"about": about, "rounds": found}


def main() -> None:
    """Measure what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lag", "docks", "rounds"))
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the life that lag measures, about")
    parser.add_argument("--blame", action="store_true", help="say what kept the event loop")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each dock")
    parser.add_argument("--names", nargs="+", default=list(DOCKS), choices=DOCKS, help="docks to open")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--parts", nargs="+", default=["docks", "viewers", "bare"], choices=["docks", "viewers", "bare"]
    )
    for name in ("--once", "--part", "--run"):  # how this file asks itself
        parser.add_argument(name, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.once or a.part:
        print(json.dumps(dock_once(a.once) if a.once else rounds_of(a.part, a.rounds, Path(a.run))))
        return
    result = {"lag": lag, "docks": docks, "rounds": rounds}[a.what](a)
    if a.out is not None:
        a.out.mkdir(parents=True, exist_ok=True)
        (a.out / f"window-{a.what}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
