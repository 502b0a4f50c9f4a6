"""Reading a run folder and showing it: one self-contained HTML file, and a summary for the terminal."""

from cascade.report.page import build_report
from cascade.report.run_folder import RunRecord, read_run
from cascade.report.summary import print_summary

__all__ = ["RunRecord", "build_report", "print_summary", "read_run"]
