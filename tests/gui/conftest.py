"""Fixtures for tests of the window: napari's own, and a watch on what a test leaves behind."""

from __future__ import annotations

import gc
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

import napari.settings
import psutil
import pytest
from driving import Window
from napari.utils._testsupport import (  # noqa: F401 (pytest finds fixtures and hooks by these names)
    _clean_themes,
    _disable_qt_warnings,
    make_napari_viewer,
    make_napari_viewer_proxy,
    mock_app_model,
    pytest_runtest_makereport,
    use_leak_safe_log_records,
)
from qtpy.QtCore import QCoreApplication, QEvent, QThread, QThreadPool
from qtpy.QtWidgets import QApplication

from napari_disentangle import sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRACE = 3.0  # seconds in which what was asked to stop may stop


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for the samples, so that the user's own is left alone."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "sample_folder", lambda: folder)
        yield folder


@pytest.fixture
def window(make_napari_viewer, qtbot) -> Iterator[Window]:  # noqa: F811 (napari's fixture)
    """A window with all panels."""
    made = Window(make_napari_viewer(show=True), qtbot)
    yield made
    made.close()


@pytest.fixture(scope="session", autouse=True)
def _screen(request: pytest.FixtureRequest) -> None:
    """Say what is missing before Qt ends the process for want of a screen."""
    wanted = sys.platform == "linux" and not request.config.getoption("--no-xvfb")
    if wanted and request.getfixturevalue("xvfb") is None:
        pytest.fail("there is no Xvfb to draw on: make system", pytrace=False)


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the plugin's preferences in this test's own folder."""
    monkeypatch.setattr(napari.settings, "_CFG_PATH", str(tmp_path / "settings" / "settings.yaml"))
    napari.settings._clear_plugin_settings_cache()
    yield
    napari.settings._clear_plugin_settings_cache()


def _alive(started: WeakSet[QThread]) -> dict[tuple[str, int], str]:
    """What a test could leave behind, by kind and identity: no reference to it is kept, which would keep it alive."""
    # Menus, dialogs and popups that have a parent go with it.
    found = {("widget", id(w)): repr(w) for w in QApplication.topLevelWidgets() if w.parent() is None}
    found |= {("QThread", id(thread)): repr(thread) for thread in started if thread.isRunning()}
    if working := QThreadPool.globalInstance().activeThreadCount():
        found["worker", 0] = f"{working} at work in the thread pool"
    for thread in threading.enumerate():
        # Dummies are Qt's threads as Python met them, for good; tqdm keeps one thread that watches all its bars.
        if not isinstance(thread, threading._DummyThread) and type(thread).__name__ != "TMonitor":
            found["thread", id(thread)] = repr(thread)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            line = " ".join(process.cmdline())
            # multiprocessing keeps one resource tracker to the end.
            if process.status() != psutil.STATUS_ZOMBIE and process.name() != "Xvfb" and "resource_tracker" not in line:
                found["process", process.pid] = f"process {process.pid}: {line}"
    return found


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest, qapp: QApplication, monkeypatch: pytest.MonkeyPatch):
    """Fail a test that passed but leaves widgets, threads or processes; one that failed has said enough."""
    started: WeakSet[QThread] = WeakSet()
    start = QThread.start

    def start_and_remember(thread: QThread, *priority: QThread.Priority) -> None:
        started.add(thread)
        start(thread, *priority)

    monkeypatch.setattr(QThread, "start", start_and_remember)
    there = QApplication.topLevelWidgets()  # kept, so that an identity stays theirs
    before = _alive(started)
    yield
    if not hasattr(request.node, "rep_call") or request.node.rep_call.failed:
        return
    until = time.monotonic() + GRACE
    while True:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        qapp.processEvents()
        left = {key: what for key, what in _alive(started).items() if key not in before}
        if not left:
            break
        if time.monotonic() > until:
            pytest.fail("left behind: " + "; ".join(left.values()), pytrace=False)
        gc.collect()
        time.sleep(0.02)
    del there
