"""What a page shows of one split: metrics, errors, the worst samples and a map; small, and kept in report.json."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..confusion import confusion
from ..data import Recordings
from ..data.recordings import UNLABELLED, is_labelled
from ..metrics import compute_metrics
from ..pictures import Places, mapped_samples
from ..report import write_json

MOST_POINTS = 3000  # of a scatter plot: more of them slow a browser down, and lie on one another
NUM_WORST = 20


def split_part(split: str, judged: Mapping[str, Any], recordings: Recordings, places: Places) -> dict[str, Any]:
    """All that a page says of a split.

    Args:
        split: its name.
        judged: what :func:`dmd.evaluation.evaluate` says of it.
        recordings: the data; its train split gives the constant prediction that every model should beat.
        places: of :func:`dmd.pictures.feature_maps`, for this split.
    """
    predictions, samples = judged["predictions"], recordings.splits[split]
    truth, prediction = np.asarray(predictions["truth"]), np.asarray(predictions["prediction"])
    known = np.flatnonzero(is_labelled(samples))
    part: dict[str, Any] = {
        "split": split,
        "data": Path(recordings.path).name,
        "sha256": recordings.sha256,
        "task": recordings.task,
        "classes": list(recordings.classes),
        "metrics": judged["metrics"],
        "size": len(truth),
        "labelled": len(known),
        "constant": _constant(recordings, split),
        "worst": [],
        "map": _map(predictions, places),
    }
    if len(known) == 0:
        return part
    if recordings.task == "classification":
        counts = confusion(truth, prediction, len(recordings.classes))
        confidence = np.asarray(judged["confidence"])
        wrong = known[truth[known] != prediction[known]]
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")]
        part |= {"confusion": counts.tolist(), "num_wrong": len(wrong)}
    else:
        confidence = None
        worst = known[np.argsort(-np.abs(prediction - truth)[known], kind="stable")]
        drawn = known if len(known) <= MOST_POINTS else known[:: -(-len(known) // MOST_POINTS)]
        part["points"] = [[predictions["id"][i], *map(_rounded, (truth[i], prediction[i]))] for i in drawn]
    for i in worst[:NUM_WORST]:
        row = {"id": predictions["id"][i], "truth": _rounded(truth[i]), "prediction": _rounded(prediction[i])}
        row |= {"confidence": None if confidence is None else _rounded(confidence[i])}
        row |= {"text": None if samples.transcripts is None else samples.transcripts[i]}
        part["worst"].append(row)
    return part


def read_parts(folder: Path) -> dict[str, Any]:
    """The content of report.json: "parts" and "machine"; what is damaged, or not there, is left out."""
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        parts = {title: part for title, part in content["parts"].items() if _is_part(part)}
        return {"machine": content.get("machine"), "parts": parts}
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):
        return {"machine": None, "parts": {}}


def is_number(value: Any) -> bool:
    """Whether this is a number that charts can show; JSON from elsewhere may hold NaN and numbers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_part(part: Any) -> bool:
    """Whether this is what :func:`split_part` makes, as far as pages rely on it."""
    try:
        return _is_whole(part)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _is_whole(part: Any) -> bool:
    kinds = {"metrics": dict, "classes": list, "worst": list, "size": int, "labelled": int, "sha256": str}
    if not all(isinstance(part[key], kind) for key, kind in kinds.items()):
        return False
    worst, classes, points = part["worst"], part["classes"], part.get("points", [])
    constant = part["constant"] or {"text": "", "metrics": {}}
    found = part["map"] or {"id": [], "truth": [], "prediction": [], "places": {}}
    places = [nodes[name] for nodes in found["places"].values() for name in nodes]
    texts = [*classes, constant["text"], *found["id"], *(name for name, *_ in points), *(row["id"] for row in worst)]
    texts += [row["text"] for row in worst if row["text"] is not None]
    numbers = [x for _, truth, prediction in points for x in (truth, prediction)]
    numbers += [row[key] for row in worst for key in ("truth", "prediction", *(["confidence"] if classes else []))]
    undefined = [*part["metrics"].values(), *constant["metrics"].values(), *found["truth"], *found["prediction"]]
    undefined += [x for rows in places for place in rows for x in place]
    if "confusion" in part or (classes and part["labelled"]):
        numbers += [part["num_wrong"], *(count for row in part["confusion"] for count in row)]
        if np.shape(part["confusion"]) != (len(classes),) * 2:
            return False
    return (
        all(isinstance(text, str) for text in texts)
        and all(map(is_number, numbers))
        and all(value is None or is_number(value) for value in undefined)
        and len(found["id"]) == len(found["truth"]) == len(found["prediction"])
        and all(len(rows) == len(found["id"]) and all(len(place) == 2 for place in rows) for rows in places)
    )


def write_parts(folder: Path, parts: Mapping[str, Any], machine: str | None) -> None:
    """Write report.json, in place of what is there."""
    write_json(folder / "report.json", {"machine": machine, "parts": parts})


def this_machine() -> str:
    """The machine, as far as timings depend on it."""
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([system, *gpus])


def _constant(recordings: Recordings, split: str) -> dict[str, Any] | None:
    """What is predicted when nothing is known of a sample: the most frequent class, or the median label."""
    train, samples = recordings.splits["train"], recordings.splits[split]
    known, labels = train.labels[is_labelled(train)], samples.labels
    if len(known) == 0 or not is_labelled(samples).any():
        return None
    if recordings.task == "classification":
        value = int(np.bincount(known).argmax())
        text = f"always {recordings.classes[value]}"
    else:
        value = float(np.median(known))
        text = f"always {value:.2f}"
    return {"text": text, "metrics": compute_metrics(np.full_like(labels, value), labels, recordings.metrics)}


def _map(predictions: Mapping[str, Any], places: Places) -> dict[str, Any] | None:
    if not places:
        return None
    num_shown = len(next(iter(next(iter(places.values())).values())))
    chosen = mapped_samples(len(predictions["id"]), num_shown)
    return {
        "id": [predictions["id"][i] for i in chosen],
        "truth": [_rounded(predictions["truth"][i]) for i in chosen],
        "prediction": [_rounded(predictions["prediction"][i]) for i in chosen],
        "places": {
            unit: {name: [[_rounded(x, 2) for x in place] for place in rows] for name, rows in nodes.items()}
            for unit, nodes in places.items()
        },
    }


def _rounded(value: Any, digits: int = 4) -> float | int | None:
    """A number for a page; None where it is undefined, or the class of what is unlabelled."""
    value = value.item() if hasattr(value, "item") else value
    if not math.isfinite(value) or (isinstance(value, int) and value == UNLABELLED):
        return None
    return round(value, digits)
