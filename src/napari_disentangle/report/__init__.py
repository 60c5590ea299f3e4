"""The report of a run: one HTML page with its pictures inside, to read or to send."""

from napari_disentangle.report.of_run import write_report

__all__ = ["write_report"]
