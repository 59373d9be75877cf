"""What a run leaves behind: tables for the screen, JSON and CSV files; see :mod:`dmd.pictures` and :mod:`dmd.page` too.

Files appear whole or not at all, see :mod:`dmd.durable`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn

from .data import Recordings
from .durable import replacing
from .pictures import write_pictures
from .spread import mean_std

__all__ = [
    "results_table",
    "summary_table",
    "write_csv",
    "write_edges_csv",
    "write_json",
    "write_pictures",
    "write_predictions_csv",
    "write_run",
    "write_text",
]


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON; arrays become lists, paths strings, NaN and infinities null (JSON has neither)."""
    write_text(path, json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_edges_csv(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one line an epoch, GD-Unit and edge: epoch, unit, source, target, weight."""
    columns = ("epoch", "unit", "source", "target", "weight")
    write_csv(path, columns, ([row[column] for column in columns] for row in rows))


def write_predictions_csv(path: Path, predictions: Mapping[str, Mapping[str, Any]]) -> None:
    """Write one line a sample: split, id, truth, prediction; the truth of an unlabelled sample is empty.

    Args:
        path: the file.
        predictions: split -> {"id", "truth", "prediction"}, index-aligned.
    """
    rows = (
        [split, name, "" if math.isnan(truth) or truth == -100 else truth, prediction]
        for split, part in predictions.items()
        for name, truth, prediction in zip(part["id"], part["truth"], part["prediction"], strict=True)
    )
    write_csv(path, ("split", "id", "truth", "prediction"), rows)


def write_run(
    out: Path,
    results: Mapping[str, Any],
    judged: Mapping[str, Mapping[str, Any]],
    state: Mapping[str, Any],
    recordings: Recordings,
    *,
    with_pictures: bool,
) -> None:
    """Write all that a finished run leaves behind.

    Args:
        out: folder of the run.
        results: what results.json is to hold.
        judged: split -> what :func:`dmd.evaluation.evaluate` says of it.
        state: "history" and "edges" of the epochs.
        recordings: the data.
        with_pictures: draw them as well, and write the page that shows everything.
    """
    write_edges_csv(out / "edges.csv", state["edges"])
    write_predictions_csv(out / "predictions.csv", {name: part["predictions"] for name, part in judged.items()})
    write_json(out / "history.json", state["history"])
    if with_pictures:
        # Which reads run folders with what itself writes JSON by this module.
        from .page import split_part, this_machine, write_parts, write_report

        predictions = judged["test"]["predictions"]
        places = write_pictures(
            out,
            recordings_task=recordings.task,
            classes=recordings.classes,
            history=state["history"],
            edges=state["edges"],
            truth=predictions["truth"],
            prediction=predictions["prediction"],
            embeddings=judged["test"]["features"],
            labels=predictions["truth"],
            best_epoch=results["best_epoch"],
        )
        shown = ["test", "valid"] if results["valid"] else ["test"]  # not what training has seen
        maps = {"test": places or {}}
        parts = {split: split_part(split, judged[split], recordings, maps.get(split, {})) for split in shown}
        write_parts(out, parts, this_machine())
        try:
            write_report(out, results=results)
        except OSError:  # such as a full disk: what follows could not be written either
            raise
        except Exception as error:  # the page is about the run, and must not cost it its results
            warnings.warn(f"{out / 'report.html'} is not written: {type(error).__name__}: {error}", stacklevel=2)
    write_json(out / "results.json", results)  # last: its presence says that the run is finished


def heading(
    data: str, task: nn.Module, recordings: Recordings, state: Mapping[str, Any], accelerator: Accelerator, out: Path
) -> str:
    """What is about to be trained, on what, and from where."""
    parameters = sum(parameter.numel() for parameter in task.parameters())
    sizes = ", ".join(f"{split} {size}" for split, size in recordings.sizes.items())
    start = f", from epoch {state['epoch'] + 1}, step {state['step'] + 1}" if state["step"] else ""
    device = f"{accelerator.device}, {accelerator.num_processes} process(es)"
    return f"{data}: {sizes}; {parameters:,} parameters on {device}; into {out}{start}"


def finished_epochs(out: Path) -> int | None:
    """How many epochs the results in a folder come from; -1 where they do not say so, None where there are none."""
    path = out / "results.json"
    return json.loads(path.read_text(encoding="utf-8")).get("epochs", -1) if path.is_file() else None


def results_table(results: Mapping[str, Any]) -> str:
    """The metrics of one run as a table for the screen, from the content of results.json."""
    sizes = ", ".join(f"{split} {size}" for split, size in results["data"]["sizes"].items())
    heading = f"{Path(results['data']['path']).name} ({sizes}), seed {results['seed']}"
    if results.get("best_epoch") is not None:
        heading += f", best epoch {results['best_epoch']}"
    names = dict.fromkeys([*results["test"], *results["valid"]])
    width = max(map(len, ["metric", *names]))
    lines = [f"{'metric':{width}}  {'test':>8}  {'valid':>8}", f"{'-' * width}  {'-' * 8}  {'-' * 8}"]
    for name in names:
        test, valid = (_number(results[split].get(name), 4) for split in ("test", "valid"))
        lines.append(f"{name:{width}}  {test:>8}  {valid:>8}")
    footing = f"{_number(results['seconds'], 1)} s, peak memory {_number(results['peak_memory_mb'], 0)} MB"
    warnings = [
        f"warning, {unit} graph: {text}"
        for unit, graph in results.get("graphs", {}).items()
        for text in graph["warnings"]
    ]
    return "\n".join([heading, "", *lines, "", footing, *warnings])


def summary_table(results: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Mean and standard deviation (n - 1) of every metric over runs that differ in their seed.

    An undefined value (NaN; null in results.json) stays among the values, and is left out of mean and deviation.

    Args:
        results: the content of each run's results.json.

    Returns:
        A Markdown table, and `{"n", "seeds", "test": {metric: {"mean", "std", "values"}}, "valid": {...}}`; the
        deviation of a single value is NaN.
    """
    seeds = [run["seed"] for run in results]
    summary: dict[str, Any] = {"n": len(seeds), "seeds": seeds}
    for split in ("test", "valid"):
        names = dict.fromkeys(name for run in results for name in run[split])
        summary[split] = {name: _statistics([run[split].get(name) for run in results]) for name in names}

    def cell(split: str, name: str) -> str:
        entry = summary[split].get(name, _statistics([]))
        defined = sum(map(math.isfinite, entry["values"]))
        note = f" (n = {defined})" if defined < len(seeds) else ""
        return f"{_number(entry['mean'], 3)} ± {_number(entry['std'], 3)}{note}"

    lines = ["| metric | test | valid |", "|---|---|---|"]
    for name in dict.fromkeys([*summary["test"], *summary["valid"]]):
        lines.append(f"| {name} | {cell('test', name)} | {cell('valid', name)} |")
    caption = f"Mean ± standard deviation over seeds {', '.join(map(str, seeds))} (n = {len(seeds)})."
    return "\n".join([*lines, "", caption]), summary


def _statistics(values: Sequence[float | None]) -> dict[str, Any]:
    mean, std = mean_std(values)
    return {"mean": mean, "std": std, "values": [math.nan if value is None else float(value) for value in values]}


def _number(value: float | None, digits: int) -> str:
    return "—" if value is None or not math.isfinite(value) else f"{value:z.{digits}f}"  # z: never -0.000


def _plain(content: Any) -> Any:
    """`content` in the types that JSON knows."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (Tensor, np.ndarray, np.generic)):
        return _plain(content.tolist())
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    return str(content) if isinstance(content, Path) else content


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a line of names, and a line a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write the whole file or leave the old one as it is, also when interrupted."""
    content = text.encode()
    with replacing(path, len(content)) as temporary:
        temporary.write_bytes(content)
