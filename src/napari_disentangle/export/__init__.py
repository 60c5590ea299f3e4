"""From a run to files for other programs: subsets of the original list, averages, tables of codes."""

from napari_disentangle.export.average import AverageRecord, StoredAverage, read_average, write_average
from napari_disentangle.export.codes import write_codes
from napari_disentangle.export.subset import ExportRecord, export_selection

__all__ = [
    "AverageRecord",
    "ExportRecord",
    "StoredAverage",
    "export_selection",
    "read_average",
    "write_average",
    "write_codes",
]
