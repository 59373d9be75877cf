"""report.html, the page that a run ends with, and the page that compares several runs."""

from .part import read_parts, split_part, this_machine, write_parts
from .run import write_report

__all__ = ["read_parts", "split_part", "this_machine", "write_parts", "write_report"]
