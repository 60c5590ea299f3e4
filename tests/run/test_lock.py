"""One writer at a time, and a lock that was left behind does not stay for ever."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from napari_disentangle.errors import InputError
from napari_disentangle.run import lock as module
from napari_disentangle.run.lock import STALE_AFTER, STALE_HERE, Lock, holder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAKE = """
import sys
from pathlib import Path
from napari_disentangle.errors import InputError
from napari_disentangle.run.lock import Lock
try:
    with Lock(Path(sys.argv[1])):
        print("taken", flush=True)
        sys.stdin.read()
except InputError as error:
    print(error, flush=True)
"""


def other_process(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def held(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A second process that holds the lock."""
    with other_process(tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def gone() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def left_behind(folder: Path, **content: Any) -> None:
    (folder / "lock").write_text(
        json.dumps({"host": socket.gethostname(), "pid": os.getppid(), "heartbeat": time.time()} | content)
    )


class TestTwoProcesses:
    def test_the_second_writer_is_refused(self, tmp_path, held):
        with (
            pytest.raises(InputError, match=rf"is being written by process {held.pid} on {socket.gethostname()}"),
            Lock(tmp_path),
        ):
            pass
        assert json.loads((tmp_path / "lock").read_text())["pid"] == held.pid

    def test_it_may_write_when_the_first_is_done(self, tmp_path, held):
        held.communicate("")
        with Lock(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
        assert not list(tmp_path.iterdir())

    def test_a_killed_writers_lock_is_taken_over(self, tmp_path, held):
        held.kill()
        held.wait()
        assert (tmp_path / "lock").exists()
        with Lock(tmp_path):
            pass
        assert not list(tmp_path.iterdir())

    def test_this_process_refuses_another(self, tmp_path):
        with Lock(tmp_path), other_process(tmp_path) as process:
            said, _ = process.communicate("")
        assert f"is being written by process {os.getpid()}" in said

    def test_nor_itself_twice(self, tmp_path):
        with Lock(tmp_path):
            with pytest.raises(InputError, match="is being written"), Lock(tmp_path):
                pass
            assert (tmp_path / "lock").exists()  # the inner one has not taken the outer one's away


class TestLeftBehind:
    @pytest.mark.parametrize(
        "content",
        [
            {"host": "elsewhere", "heartbeat": time.time() - STALE_AFTER - 60},
            {"heartbeat": time.time() - STALE_HERE - 60},  # the machine restarted: the number is somebody else's now
            {"heartbeat": "yesterday"}, {"pid": None}, {"pid": "a"}, {"pid": 2**70},
        ],
    )  # fmt: skip
    def test_a_stale_lock_is_taken_over(self, tmp_path, content):
        left_behind(tmp_path, **content)
        with Lock(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
        assert not list(tmp_path.iterdir())

    def test_so_is_that_of_a_process_that_is_gone(self, tmp_path):
        left_behind(tmp_path, pid=gone())
        with Lock(tmp_path):
            pass

    @pytest.mark.parametrize(
        "content", [{}, {"host": "elsewhere"}, {"host": "elsewhere", "pid": -1}, {"heartbeat": time.time() - 1000}]
    )
    def test_a_living_ones_is_not(self, tmp_path, content):
        left_behind(tmp_path, **content)
        with pytest.raises(InputError, match="is being written by"), Lock(tmp_path):
            pass

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
    def test_one_that_says_nothing_is_new_or_damaged(self, tmp_path, text):
        path = tmp_path / "lock"
        path.write_text(text)
        with pytest.raises(InputError, match="just being taken"), Lock(tmp_path):
            pass
        os.utime(path, (time.time() - 60,) * 2)
        with Lock(tmp_path):
            pass
        assert not path.exists()

    def test_who_is_slower_does_not_take_the_faster_ones(self, tmp_path, monkeypatch):
        """Two processes find the same stale lock; the second has judged it before the first replaced it."""
        left_behind(tmp_path, pid=gone())
        alive = module._alive
        theirs = {"host": socket.gethostname(), "pid": os.getppid(), "heartbeat": time.time()}

        def meanwhile(holder: dict[str, Any]) -> bool:
            judged = alive(holder)
            (tmp_path / "lock").write_text(json.dumps(theirs))
            return judged

        monkeypatch.setattr(module, "_alive", meanwhile)
        with pytest.raises(InputError), Lock(tmp_path):
            pass
        assert json.loads((tmp_path / "lock").read_text()) == theirs


class TestHeartbeat:
    def test_it_is_renewed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "_BEAT_EVERY", 0.0)
        with Lock(tmp_path) as lock:
            before = json.loads((tmp_path / "lock").read_text())["heartbeat"]
            lock.beat()
            assert json.loads((tmp_path / "lock").read_text())["heartbeat"] > before
            (tmp_path / "lock").unlink()
            lock.beat()  # somebody tidied up
            assert (tmp_path / "lock").exists()
        assert not list(tmp_path.iterdir())

    def test_who_was_taken_over_stops_and_leaves_the_new_lock(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "_BEAT_EVERY", 0.0)
        with Lock(tmp_path) as lock:
            left_behind(tmp_path)
            with pytest.raises(InputError, match="taken over"):
                lock.beat()
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getppid()

    def test_one_that_slept_while_another_came_and_went_does_not_come_back(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "_BEAT_EVERY", 0.0)
        with Lock(tmp_path) as lock:
            (tmp_path / "lock").unlink()
            monkeypatch.setattr(module, "STALE_AFTER", -1.0)
            with pytest.raises(InputError, match="taken over"):
                lock.beat()
            assert lock.lost
        assert not list(tmp_path.iterdir())

    def test_it_costs_nothing_between_beats(self, tmp_path):
        with Lock(tmp_path) as lock:
            before = (tmp_path / "lock").stat().st_mtime_ns
            for _ in range(1000):
                lock.beat()
            assert (tmp_path / "lock").stat().st_mtime_ns == before


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be written to"), Lock(tmp_path / "nowhere"):
        pass


def test_an_error_inside_gives_the_lock_back(tmp_path):
    with pytest.raises(ZeroDivisionError), Lock(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


class TestHolder:
    """Who writes, for those who only look."""

    def test_another_process(self, tmp_path, held):
        assert holder(tmp_path) == f"process {held.pid} on {socket.gethostname()}"
        held.communicate("")
        assert holder(tmp_path) is None

    def test_one_that_was_killed_holds_nothing(self, tmp_path, held):
        held.kill()
        held.wait()
        assert (tmp_path / "lock").exists()
        assert holder(tmp_path) is None
        assert (tmp_path / "lock").exists(), "looking takes nothing over"

    def test_this_process(self, tmp_path):
        with Lock(tmp_path):
            assert holder(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
        assert holder(tmp_path) is None

    def test_on_another_machine_as_long_as_it_is_heard(self, tmp_path):
        left_behind(tmp_path, host="cluster4", pid=812)
        assert holder(tmp_path) == "process 812 on cluster4"
        left_behind(tmp_path, host="cluster4", pid=812, heartbeat=time.time() - STALE_AFTER - 60)
        assert holder(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "{}", b"\xff\xfe"])
    def test_one_that_says_nothing_is_nobody(self, tmp_path, text):
        (tmp_path / "lock").write_bytes(text if isinstance(text, bytes) else text.encode())
        assert holder(tmp_path) is None

    def test_nobody(self, tmp_path):
        assert holder(tmp_path) is None
        assert holder(tmp_path / "nowhere") is None
