"""The tables of the two papers, run row by row: data sets, recipes, results, and what is made of them."""

from napari_disentangle.benchmark.published import PUBLISHED
from napari_disentangle.benchmark.render import write_tables
from napari_disentangle.benchmark.results import Result, read_results
from napari_disentangle.benchmark.running import Job, planned, run_job
from napari_disentangle.benchmark.tables import TABLES, Row, Table, table_named

__all__ = [
    "PUBLISHED",
    "TABLES",
    "Job",
    "Result",
    "Row",
    "Table",
    "planned",
    "read_results",
    "run_job",
    "table_named",
    "write_tables",
]
