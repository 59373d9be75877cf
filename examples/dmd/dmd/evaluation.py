"""What a trained network says of a split: predictions, metrics, loss terms, edge weights and features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, recursively_apply, send_to_device
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .data import Batch, Recordings
from .data.recordings import UNLABELLED, is_labelled
from .finite import NotFinite
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
        "predictions" {"id", "truth", "prediction"} in the order of the split, "confidence" (N,) the probability of each
        predicted class (None in regression), "metrics" (of the labelled samples; empty if there are none), "terms"
        (means over the batches, weighed by their samples), "edges" {unit: [mean weight of each edge over the samples
        that have both its modalities]}, "features" {unit: {modality: (N, width)}}, NaN where the sample lacks the
        modality, "node_losses" {unit: [mean task loss of each modality's own prediction over the labelled samples that
        have it]}. The number of processes changes none of it: no sample counts twice.

    Raises:
        NotFinite: a prediction is not finite.
    """
    samples = recordings.splits[split]
    per_sample: dict[str, list[Tensor]] = defaultdict(list)
    per_batch: dict[str, list[Tensor]] = defaultdict(list)
    is_classification = recordings.task == "classification"
    # Without the wrapper of several processes, whose forward would wait for a process that has nothing left to read.
    network = accelerator.unwrap_model(module)
    units = network.units
    module.eval()
    is_read = torch.zeros(len(samples), dtype=torch.bool)
    for batch in loader:
        batch = _without_repeats(send_to_device(batch, accelerator.device), is_read, accelerator)
        if len(batch.index) == 0:
            continue
        out = network(batch)
        prediction = out["output"].argmax(dim=1) if is_classification else out["output"]
        rows = {"index": batch.index, "prediction": prediction}
        if is_classification:
            rows["confidence"] = out["output"].softmax(dim=1).amax(dim=1)
        for unit, weights in out["edges"].items():
            has_both = out["present"][:, units[unit].edge_index].all(dim=1)  # (batch, edge)
            rows[f"edges/{unit}"] = torch.where(has_both, weights, torch.nan)
        for unit, losses in out.get("node_losses", {}).items():
            labelled = batch.labels != UNLABELLED if is_classification else ~batch.labels.isnan()
            rows[f"node_losses/{unit}"] = torch.where(labelled[:, None] & out["present"], losses, torch.nan)
        for unit, features in out["features"].items():
            for (name, value), present in zip(features.items(), out["present"].T, strict=True):
                rows[f"{unit}/{name}"] = torch.where(present[:, None], value, torch.nan)
        terms = {"size": torch.tensor(len(batch.index))}
        terms |= {name: value for name, value in out.items() if isinstance(value, Tensor) and value.dim() == 0}
        for lists, values in ((per_sample, rows), (per_batch, {name: value[None] for name, value in terms.items()})):
            for name, value in values.items():
                lists[name].append(value)

    joined, by_batch = _join(per_sample), _join(per_batch)
    order = np.argsort(joined.pop("index"))
    prediction = joined.pop("prediction")[order]
    if wrong := [samples.ids[i] for i in np.flatnonzero(~np.isfinite(prediction))]:
        text = f"{len(wrong)} of {len(prediction)} predictions of split {split!r} are not finite"
        raise NotFinite(f"{text}, the first is of sample {wrong[0]}", {"split": split, "samples": wrong})
    confidence = joined.pop("confidence")[order] if is_classification else None
    features: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for name, value in joined.items():
        unit, modality = name.split("/", 1)
        features[unit][modality] = value[order]
    edges, losses = (features.pop(name, {}) for name in ("edges", "node_losses"))  # gathered so, but by unit alone
    share = by_batch.pop("size")
    means = {name: np.average(value, axis=0, weights=share) for name, value in by_batch.items()}
    return {
        "predictions": {"id": samples.ids, "truth": samples.labels, "prediction": prediction},
        "confidence": confidence,
        "metrics": compute_metrics(prediction, samples.labels, recordings.metrics)
        if is_labelled(samples).any()
        else {},
        "terms": {name: float(value) for name, value in means.items()},
        "edges": {unit: _mean_of_present(weights).tolist() for unit, weights in edges.items()},
        "node_losses": {unit: _mean_of_present(values).tolist() for unit, values in losses.items()},
        "features": dict(features),
    }


def _without_repeats(batch: Batch, is_read: Tensor, accelerator: Accelerator) -> Batch:
    """The samples of a batch that no process has read before; ``is_read`` (samples of the split,) takes note of them.

    Accelerate gives every process as many batches of the same size, and repeats samples to that end. Left in, they
    would count twice in the terms, which are means over a batch.
    """
    if accelerator.num_processes == 1:
        return batch
    indices = accelerator.gather(batch.index).cpu()  # (process * batch,)
    first = np.unique(indices.numpy(), return_index=True)[1]
    is_new = torch.zeros(len(indices), dtype=torch.bool)
    is_new[first] = ~is_read[indices[first]]
    is_read[indices] = True
    kept = is_new.chunk(accelerator.num_processes)[accelerator.process_index].to(batch.index.device)
    return recursively_apply(lambda values: values[kept], batch)


def _join(lists: Mapping[str, list[Tensor]]) -> dict[str, np.ndarray]:
    """Rows of all batches of all processes; a process may have none."""
    parts = gather_object([{name: _numpy(tensors) for name, tensors in lists.items()}])
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.concatenate([part[name] for part in parts if name in part]) for name in names}


def _mean_of_present(weights: np.ndarray) -> np.ndarray:
    """Mean over the samples that have the edge, (N, edge) to (edge,); NaN where none has it."""
    counts = (~np.isnan(weights)).sum(axis=0)
    return np.where(counts > 0, np.nansum(weights, axis=0) / np.maximum(counts, 1), np.nan)


def _numpy(parts: list[Tensor]) -> np.ndarray:
    joined = torch.cat(parts).cpu()
    return (joined.float() if joined.is_floating_point() else joined).numpy()
