"""What a trained network says of a split: predictions, metrics, loss terms, edge weights and features."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .data import Batch, Recordings, Split
from .data.recordings import UNLABELLED
from .metrics import compute_metrics
from .task import DMDTask


def edge_names(task: DMDTask) -> tuple[tuple[str, str], ...]:
    """(source, target) of every edge, in the order of the weights; empty where no GD-Unit is on."""
    units = list(task.units.values())
    return units[0].graph.edges if units else ()  # pyright: ignore


@torch.no_grad()
def evaluate(
    module: nn.Module, loader: DataLoader[Batch], recordings: Recordings, split: str, accelerator: Accelerator
) -> dict[str, Any]:
    """Read one split once.

    Args:
        module: the task, prepared by ``accelerator`` or not.
        loader: of the split, unshuffled, prepared likewise.
        recordings: the data.
        split: name of the split.
        accelerator: gathers what several processes hold.

    Returns:
        "predictions" {"id", "truth", "prediction"} in the order of the split, "metrics" (of the labelled samples; empty
        if there are none), "terms" (mean over the samples), "edges" {unit: [mean weight of each edge over the samples
        that have both its modalities]}, "features" {unit: {modality: (N, width)}}, NaN where the sample lacks the
        modality.
    """
    per_sample: dict[str, list[Tensor]] = defaultdict(list)
    per_batch: dict[str, list[Tensor]] = defaultdict(list)
    is_classification = recordings.task == "classification"
    units = accelerator.unwrap_model(module).units
    module.eval()
    for batch in loader:
        batch = send_to_device(batch, accelerator.device)
        out = module(batch)
        prediction = out["output"].argmax(dim=1) if is_classification else out["output"]
        rows = {"index": batch.index, "prediction": prediction}
        for unit, weights in out["edges"].items():
            has_both = out["present"][:, units[unit].edge_index].all(dim=1)  # (batch, edge)
            rows[f"edges/{unit}"] = torch.where(has_both, weights, torch.nan)
        for unit, features in out["features"].items():
            for (name, value), present in zip(features.items(), out["present"].T, strict=True):
                rows[f"{unit}/{name}"] = torch.where(present[:, None], value, torch.nan)
        for name, value in accelerator.gather_for_metrics(rows).items():
            per_sample[name].append(value)
        rows = {"size": torch.tensor(len(batch.index), device=accelerator.device)}
        rows |= {name: value for name, value in out.items() if isinstance(value, Tensor) and value.dim() == 0}
        for name, value in accelerator.gather({name: value[None] for name, value in rows.items()}).items():
            per_batch[name].append(value)

    samples = recordings.splits[split]
    joined = {name: _numpy(parts) for name, parts in per_sample.items()}
    order = np.argsort(joined.pop("index"))
    prediction = joined.pop("prediction")[order]
    features: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for name, value in joined.items():
        unit, modality = name.split("/", 1)
        features[unit][modality] = value[order]
    edges = features.pop("edges", {})  # gathered like the features, but by unit alone
    rows_by_name = {name: _numpy(parts) for name, parts in per_batch.items()}
    share = rows_by_name.pop("size")
    means = {name: np.average(value, axis=0, weights=share) for name, value in rows_by_name.items()}
    return {
        "predictions": {"id": samples.ids, "truth": samples.labels, "prediction": prediction},
        "metrics": compute_metrics(prediction, samples.labels, recordings.metrics)
        if is_labelled(samples).any()
        else {},
        "terms": {name: float(value) for name, value in means.items()},
        "edges": {unit: _mean_of_present(weights).tolist() for unit, weights in edges.items()},
        "features": dict(features),
    }


def _mean_of_present(weights: np.ndarray) -> np.ndarray:
    """Mean over the samples that have the edge, (N, edge) to (edge,); NaN where none has it."""
    counts = (~np.isnan(weights)).sum(axis=0)
    return np.where(counts > 0, np.nansum(weights, axis=0) / np.maximum(counts, 1), np.nan)


def is_labelled(samples: Split) -> np.ndarray:
    """(N,), True where the label is known."""
    is_real = np.issubdtype(samples.labels.dtype, np.floating)
    return ~np.isnan(samples.labels) if is_real else samples.labels != UNLABELLED


def _numpy(parts: list[Tensor]) -> np.ndarray:
    joined = torch.cat(parts).cpu()
    return (joined.float() if joined.is_floating_point() else joined).numpy()
