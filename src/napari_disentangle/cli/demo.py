"""The demo command."""

from __future__ import annotations

from pathlib import Path

from napari_disentangle.cli import progress
from napari_disentangle.cli.arguments import Device, Overwrite
from napari_disentangle.cli.window import open_window


def demo(
    *, out: Path = Path("demo-output"), device: Device = "auto", gui: bool = False, overwrite: Overwrite = False
) -> None:
    """Run the whole path on the packaged sample, in under three minutes, and write a report with pictures.

    Parameters
    ----------
    out
        Folder to write.
    gui
        Open the run in napari at the end.
    """
    from napari_disentangle.demo import next_commands, run_demo
    from napari_disentangle.training import fit

    made = run_demo(
        out,
        train=lambda run: progress.follow(run, fit(run, device=device)),
        tell=lambda line: progress.tell([line]),
        overwrite=overwrite,
    )
    print("\nDone. What there is, and where:")
    for what, path in [*made.places(), ("run folder", made.run)]:
        print(f"  {path.absolute()}  ({what})")
    print("\nTo go on:")
    for command in next_commands(made):
        print(f"  {command}")
    if gui:
        open_window(made.run)
