"""The command line: what users type, how their mistakes are told, and the exit status.

Commands are thin: they read their arguments, call the functions that a script would call, and say what came out.
Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter

import napari_disentangle
from napari_disentangle.cli import benchmark, demo, files, results, runs, simulate, window
from napari_disentangle.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "napari-disentangle"
BAD_INPUT, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def _worth_saying(default: object) -> str | None:
    """Show a default in the help, unless it is "no", "none" or "nothing"."""
    return None if default is None or default is False or default == () else str(default)


app = App(
    name=PROGRAM,
    help="Pull apart noisy particles of cryo-electron tomography, without labels.",
    help_epilogue="Start with: napari-disentangle demo",
    version=f"{PROGRAM} {napari_disentangle.__version__}",
    help_format="markdown",
    default_parameter=Parameter(negative=(), show_default=_worth_saying),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
_simulate = App(name="simulate", help="Make labelled data from density maps, to try settings on and to test with.")
_simulate.command(simulate.stack)
_simulate.command(simulate.tomogram)
# In the order in which they are used.
_commands = (demo.demo, files.info, files.extract, runs.models, runs.train, runs.codes, results.embed, results.cluster)
_commands += (results.average, results.export, results.evaluate)
for _place, _command in enumerate(_commands):
    app.command(_command, sort_key=_place)
app.command(window.open_window, name="open", sort_key=len(_commands))
app.command(_simulate)
_benchmark = App(name="benchmark", help="Run the tables of the two papers, and see our figures beside theirs.")
_benchmark.command(benchmark.run)
_benchmark.command(benchmark.list_, name="list")
_benchmark.command(benchmark.tables)
app.command(_benchmark)
app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _with_debug(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: bool = False,
) -> None:
    """Run one command.

    Parameters
    ----------
    debug
        Show the traceback of an error.
    """
    del debug  # here for --help; main() reads it, since a mistake in the words before it must not hide it
    app(tokens, print_error=False, exit_on_error=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments
        As in ``sys.argv[1:]``, which is what None stands for.

    Returns
    -------
    int
        0 when done, 1 for bad input (told in one sentence on standard error), 2 for wrong usage, 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app.meta(words or ["--help"], print_error=False, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _tell(f"{_sentence(error)} (see {PROGRAM} --help)", WRONG_USAGE, debug)
    except InputError as error:
        return _tell(str(error), BAD_INPUT, debug)
    except KeyboardInterrupt:
        return _tell("interrupted", INTERRUPTED, debug)
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is left to say, and Python must not say it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _tell(f"{error.filename or 'the system'}: {error.strerror or error}", BAD_INPUT, debug)
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = "" if debug else "; run again with --debug and report what it prints"
        return _tell(f"this is a mistake in {PROGRAM}, not yours ({what}){hint}", BAD_INPUT, debug)
    return 0


def _tell(sentence: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return status


def _sentence(error: CycloptsError) -> str:
    return " ".join(str(error).split()).rstrip(".")
