"""What evaluate.py adds to a run's page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoint import read_config
from ..data import Recordings
from ..environment import check_pictures
from ..pictures import feature_maps
from .comparison import write_seeds
from .content import read_content
from .missing import missing_files, read_cases
from .part import read_parts, split_part, write_parts
from .run import write_report


def check_report(folder: Path) -> None:
    """Check, before anything is computed, that the page of the run in a folder can be written.

    Raises:
        FileNotFoundError, ValueError: naming the file that is not there, or is damaged, or the package that is missing.
    """
    check_pictures()
    suite = read_content(folder).described["metrics"]
    for path in missing_files(folder).values():
        read_cases(path, suite)


def with_split(folder: Path, split: str, judged: Mapping[str, Any], recordings: Recordings) -> dict[str, Any]:
    """The parts of a run's page, with those of a split that was evaluated.

    A split of other data than the run's has a title that says so. t-SNE is left out where it was done before.

    Args:
        folder: of the run.
        split: its name.
        judged: what :func:`dmd.evaluation.evaluate` says of it.
        recordings: the data.
    """
    parts = read_parts(folder)["parts"]
    is_own = read_config(folder)[1]["sha256"] == recordings.sha256
    title = split if is_own else f"{split} of {Path(recordings.path).name}"
    part = split_part(split, judged, recordings, {})
    before = parts.get(title, {})
    if before.get("map") and before["sha256"] == recordings.sha256 and before["metrics"] == part["metrics"]:
        part["map"] = before["map"]
    else:
        _, places = feature_maps(judged["features"], judged["predictions"]["truth"], recordings.classes)
        part = split_part(split, judged, recordings, places)
    return parts | {title: part}


def write_evaluated(runs: Mapping[Path, Mapping[str, Any]], path: Path | None = None) -> Path:
    """Write the page of each run, of several also the page of all, and return the one to look at.

    Args:
        runs: folder -> parts of its page.
        path: write the page of the only run here, and leave its folder as it is.

    Raises:
        ValueError: a file of a run is damaged.
    """
    for folder, parts in runs.items():
        if path is None:
            write_parts(folder, parts, read_parts(folder).get("machine"))
        page = write_report(folder, parts=parts, path=path)
    return write_seeds(folder.parent) if len(runs) > 1 else page
