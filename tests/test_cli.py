"""The command line's manners: help, exit status, and how mistakes are told."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from napari_disentangle import cli
from napari_disentangle.cli import main
from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = [
    "demo", "info", "extract", "models", "train", "codes", "embed", "cluster", "average", "export", "evaluate",
    "simulate stack", "simulate tomogram", "benchmark run", "benchmark list", "benchmark tables",
]  # fmt: skip


@pytest.fixture
def failing():
    """Give the program a command `fail` that raises what it is told to."""

    def use(error: BaseException) -> None:
        def command() -> None:
            raise error

        cli.app.command(command, name="fail", show=False)

    yield use
    del cli.app["fail"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([*command.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert f"Usage: napari-disentangle {command}" in out
    assert err == ""


def test_help_names_every_command_and_what_it_does(capsys: pytest.CaptureFixture[str]):
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for command in {command.split()[0] for command in COMMANDS}:
        (line,) = [line for line in lines if line.startswith(f"│ {command} ")]
        assert len(line.split()) > 5


def test_nothing_to_do_is_a_question_for_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    assert "Usage:" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]):
    import napari_disentangle

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"napari-disentangle {napari_disentangle.__version__}"


def test_help_answers_at_once():
    """Within half a second on two cores; the best of five, so that a busy machine does not fail it."""
    command = [sys.executable, "-m", "napari_disentangle", "--help"]
    took: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["info"],
        ["extract", "a.star", "out"],
        ["extract", "a.star", "out", "--box", "many"],
        ["extract", "a.star", "out", "--box", "-4"],
        ["extract", "a.star", "out", "--box", "32", "--edge", "ignore"],
        ["extract", "a.star", "out", "--box", "32", "--tilt-range", "-60"],
        ["extract", "a.star", "out", "--box", "32", "--tilt-range=60,-60"],
        ["extract", "a.star", "out", "--box", "32", "--no-such-option"],
        ["simulate", "stack", "maps"],
        ["simulate", "tomogram", "maps", "out", "--size", "96,256"],
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("napari-disentangle: ")


def test_bad_input_is_one_sentence_and_status_1(failing, capsys: pytest.CaptureFixture[str]):
    failing(InputError("a.star is empty; choose another."))
    assert main(["fail"]) == 1
    assert capsys.readouterr() == ("", "napari-disentangle: a.star is empty; choose another.\n")


def test_debug_adds_the_traceback(failing, capsys: pytest.CaptureFixture[str]):
    failing(InputError("a.star is empty; choose another."))
    assert main(["fail", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("napari-disentangle: a.star is empty; choose another.\n")


def test_an_interrupt_is_status_130(failing, capsys: pytest.CaptureFixture[str]):
    failing(KeyboardInterrupt())
    assert main(["fail"]) == 130
    assert capsys.readouterr().err == "napari-disentangle: interrupted\n"


def test_a_refusal_of_the_system_is_told_with_the_file(failing, capsys: pytest.CaptureFixture[str]):
    failing(PermissionError(13, "Permission denied", "/locked/out.star"))
    assert main(["fail"]) == 1
    assert capsys.readouterr().err == "napari-disentangle: /locked/out.star: Permission denied\n"


def test_a_mistake_of_ours_is_owned_in_one_sentence(failing, capsys: pytest.CaptureFixture[str]):
    failing(ZeroDivisionError("division\nby zero"))
    assert main(["fail"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "ZeroDivisionError: division by zero" in err
    assert "--debug" in err


def test_python_m_is_the_same_program(tmp_path: Path):
    command = [sys.executable, "-m", "napari_disentangle", "info", str(tmp_path / "absent.star")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "absent.star" in done.stderr


@pytest.mark.parametrize("written", [["--tilt-range", "-60,50"], ["--tilt-range=-60,50"]])
def test_a_tilt_range_may_start_with_a_minus(written: list[str]):
    _, bound, _ = cli.app.parse_args(["info", "a.star", *written])
    assert bound.arguments["reading"].tilt_range == (-60.0, 50.0)
