"""The fine-tuned BERT that a published checkpoint may bring along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .data import Batch
from .text import require_transformers

# Buffers of older releases of transformers, which number positions and hold no weight.
COUNTERS = ("embeddings.position_ids", "embeddings.token_type_ids")
NEEDED_BY = "the checkpoint's fine-tuned BERT"


class ReleasedText(nn.Module):
    """BERT over token ids padded to a fixed number of steps; as published, padding keeps the states that it gets.

    Args:
        content: the encoder's configuration, as :func:`bert_config` gives it.
        steps: tokens of a text.
    """

    def __init__(self, content: Mapping[str, Any], steps: int) -> None:
        super().__init__()
        self.content = dict(content)
        transformers = require_transformers(NEEDED_BY)
        self.model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**content))
        self.steps = steps

    def forward(self, batch: Batch) -> Tensor:
        """Token ids of a batch to their last hidden states, (batch, steps, width)."""
        if batch.tokens is None:
            raise ValueError("released: the fine-tuned BERT needs a batch with token ids, got one without")
        missing = self.steps - batch.tokens.shape[1]
        if missing < 0:
            raise ValueError(f"released: the network reads at most {self.steps} tokens, got {batch.tokens.shape[1]}")
        tokens, mask = F.pad(batch.tokens, (0, missing)), F.pad(batch.masks["language"], (0, missing))
        mask = mask | ~mask.any(dim=1, keepdim=True)  # without anything to attend to, a text would be NaN
        return self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state


def bert_config(shapes: Mapping[str, Iterable[int]]) -> dict[str, Any] | None:
    """The BERT that these weights (without their prefix ``text_model.model.``) are, or None if they are no whole BERT.

    Heads are 64 wide, as in every published BERT.

    Raises:
        ValueError: transformers is not installed, so that it cannot be told.
    """
    require_transformers(NEEDED_BY)
    shown = {key: tuple(shape) for key, shape in shapes.items() if key not in COUNTERS}
    embeddings = [shown.get(f"embeddings.{name}_embeddings.weight", ()) for name in ("word", "position", "token_type")]
    hidden = shown.get("encoder.layer.0.intermediate.dense.weight", ())
    if any(len(shape) != 2 for shape in (*embeddings, hidden)):
        return None
    width = embeddings[0][1]
    content = {
        "model_type": "bert",
        "vocab_size": embeddings[0][0],
        "max_position_embeddings": embeddings[1][0],
        "type_vocab_size": embeddings[2][0],
        "hidden_size": width,
        "intermediate_size": hidden[0],
        "num_attention_heads": max(1, width // 64),
        "num_hidden_layers": len({key.split(".")[2] for key in shown if key.startswith("encoder.layer.")}),
    }
    try:
        with torch.device("meta"):
            wanted = {key: tuple(x.shape) for key, x in ReleasedText(content, 1).model.state_dict().items()}
    except ValueError:  # a width that its heads do not divide
        return None
    return content if wanted == shown else None
