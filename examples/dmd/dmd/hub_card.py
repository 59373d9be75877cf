"""The model card of a shared model: what it reads and answers, what it scored, and how it is called."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .config import RunConfig

KEPT = ("test", "valid", "seed", "best_epoch", "versions", "data")  # of results.json

TEXT = """
# {name}

The network `{network}` of the DMD example of gdkit, after [Decoupled Multimodal Distilling]({url}).
It reads {modalities}, and answers with {answer}.

## Results

{results}

## Use

```python
from dmd.hub import PretrainedDMD  # examples/dmd of gdkit is on the path

predictor = PretrainedDMD.from_pretrained("FOLDER OR REPOSITORY").predictor()
predictor({{{sample}}})
```

A modality may be missing; one must be there. Standardisation is part of the network.{encoder}

## Training

Data `{data}` (sha256 `{sha256}`), seed {seed}, at most {epochs} epochs, batches of {batch_size}, learning rate
{learning_rate:g}. All options are in config.json; `evaluate.py` and `predict.py` read this folder as that of a run.
"""
URL = "https://arxiv.org/abs/2303.13802"


def check_results(results: Any) -> dict[str, Any]:
    """What a card shows of results.json.

    Raises:
        ValueError: it is not what a run writes.
    """
    kept = {key: results[key] for key in KEPT if key in results} if isinstance(results, Mapping) else {}
    sizes = kept["data"].get("sizes") if isinstance(kept.get("data"), Mapping) else None
    for what, table, kinds in (
        ("test", kept.get("test"), (int, float)),
        ("valid", kept.get("valid"), (int, float)),
        ("data.sizes", sizes, (int,)),
    ):
        if not isinstance(table, Mapping) or not all(x is None or isinstance(x, kinds) for x in table.values()):
            raise ValueError(f"{what} must be numbers by name, got {str(table)[:60]!r}")
    return kept


def model_card(
    config: RunConfig, described: Mapping[str, Any], results: Mapping[str, Any] | None, **options: Any
) -> ModelCard:
    """The card.

    Args:
        config, described: of the run.
        results: of :func:`check_results`; None: no table.
        options: fields of ``huggingface_hub.ModelCardData``, such as ``license`` and ``language``.
    """
    name = options.pop("model_name", f"{config.network} on {config.data}")
    scores = {} if results is None else {key: value for key, value in results["test"].items() if _is_number(value)}
    task = described["task"]
    found = [
        EvalResult(
            task_type=f"multimodal-{task}",
            dataset_type=config.data,
            dataset_name=config.data,
            dataset_split="test",
            metric_type=key,
            metric_value=round(value, 4),
        )
        for key, value in scores.items()
    ]
    fields = {"library_name": "gdkit", "tags": ["gdkit", "multimodal", f"multimodal-{task}"], **options}
    if found:
        fields |= {"model_name": name, "eval_results": found}
    classes = described["classes"]
    text = TEXT.format(
        name=name,
        network=config.network,
        url=URL,
        modalities=", ".join(f"{modality} ({width} columns)" for modality, width in described["dims"].items()),
        answer=f"one of {', '.join(classes)}" if classes else "a number",
        results=_table(results),
        sample=", ".join(f'"{modality}": {modality}' for modality in described["dims"]),
        encoder=f" Language is token ids of the text encoder `{config.text_encoder}`." if config.text else "",
        data=config.data,
        sha256=described["sha256"][:12],
        seed=config.seed,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
    )
    return ModelCard(f"---\n{ModelCardData(**fields).to_yaml()}\n---\n{text}")


def _table(results: Mapping[str, Any] | None) -> str:
    if results is None:
        return "None are recorded."
    sizes = results["data"]["sizes"]
    lines = [f"| metric | test (n = {sizes.get('test')}) | valid (n = {sizes.get('valid')}) |", "|---|---|---|"]
    for name in dict.fromkeys([*results["test"], *results["valid"]]):
        cells = [results[split].get(name) for split in ("test", "valid")]
        lines.append(f"| {name} | {' | '.join(f'{x:.4f}' if _is_number(x) else '—' for x in cells)} |")
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
