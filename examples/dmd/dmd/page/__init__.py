"""report.html, the page that a run ends with, and the page that compares several runs."""

from .comparison import Group, read_group, write_comparison, write_seeds
from .evaluated import check_report, with_split, write_evaluated
from .part import split_part, this_machine, write_parts
from .run import write_report

__all__ = [
    "Group",
    "check_report",
    "read_group",
    "split_part",
    "this_machine",
    "with_split",
    "write_comparison",
    "write_evaluated",
    "write_parts",
    "write_report",
    "write_seeds",
]
