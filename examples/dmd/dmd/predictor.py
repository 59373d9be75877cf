"""A trained network as a service: answers to one sample or many, from any number of threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .baselines import BaselineTask
from .checkpoint import load_network, read_config
from .config import RunConfig
from .environment import check_device
from .released_objective import ReleasedTask
from .samples import SampleReader
from .task import DMDTask
from .text import TextEncoder, load_encoder


class Value(NamedTuple):
    """The answer of a regression."""

    value: float


class Class(NamedTuple):
    """The answer of a classification: the likeliest class, and the probability of each in the order of the labels."""

    name: str
    probabilities: dict[str, float]


class Predictor:
    """Answers of a trained network; one instance serves any number of threads.

    A sample is a mapping from modality to (time, dim) numbers as they were recorded: NumPy arrays, lists or tensors, of
    any length. A modality that is left out, None or of no step is absent; one at least must be there. The learned
    standardisation is part of the network. Where the network reads text through an encoder, `language` is
    (time,) token ids; frozen encoders also take the (time, width) states that they would give.

    What else is asked at the same time never shows in an answer: networks are computed in double precision, in which
    another batch or more padding changes a value by less than 1e-12; in float32 it would by 1e-6 and more.

    Args:
        task: a trained network, which becomes the predictor's own.
        config, described: what :func:`dmd.checkpoint.read_config` says of its run.
        device, dtype: where and in which precision to compute.
        max_batch_size: samples that are computed at once; more of them take turns, those of similar length together.
        max_steps: longer sequences are refused: attention takes memory by their square. None: no limit.

    Example::

        predictor = Predictor.from_checkpoint("runs/smartwatch")
        predictor({"accelerometer": accelerometer, "gyroscope": gyroscope}).name
    """

    def __init__(
        self,
        task: DMDTask | BaselineTask | ReleasedTask,
        config: RunConfig,
        described: Mapping[str, Any],
        device: str | torch.device = "cpu",
        *,
        dtype: torch.dtype = torch.float64,
        max_batch_size: int = 64,
        max_steps: int | None = None,
    ) -> None:
        if max_batch_size < 1:
            raise ValueError(f"max_batch_size must be at least 1, got {max_batch_size}")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}")
        if not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating point type, got {dtype}")
        check_device(device)
        self.classes, self.max_batch_size = tuple(described["classes"]), max_batch_size
        task = task.to(device=device, dtype=dtype).eval()
        self._network: nn.Module = task.model
        self._is_masked = not isinstance(task, ReleasedTask)
        dims = described["dims"]
        longest = {} if self._is_masked else dict(task.model.config.steps)
        if max_steps is not None:
            longest = {name: min(max_steps, longest.get(name, max_steps)) for name in dims}
        encoder = task.text_encoder if self._is_masked else task.text_model
        self.reader = SampleReader(
            dims,
            longest,
            None if isinstance(encoder, nn.Identity) else encoder,
            takes_states=config.text == "frozen",
            device=next(task.parameters()).device,
            dtype=dtype,
        )

    @classmethod
    def from_checkpoint(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        **options: Any,
    ) -> Predictor:
        """The predictor of a run.

        Args:
            folder: of the run, as train.py or import_released.py leaves it.
            device: where to compute.
            options: ``dtype``, ``max_batch_size`` and ``max_steps`` of the class.

        Raises:
            FileNotFoundError: the folder holds no trained network.
            ValueError: a file is damaged, PyTorch does not find the device, or the text encoder that the run was
                trained with cannot be loaded.
        """
        config, described = read_config(Path(folder))
        task = with_text_encoder(load_network(Path(folder), config, described), config, described)
        return cls(task, config, described, device, **options)

    @property
    def dims(self) -> dict[str, int]:
        """Modality -> width of a step."""
        return dict(self.reader.dims)

    @property
    def reads_tokens(self) -> bool:
        """Whether `language` is token ids."""
        return self.reader.encoder is not None

    def __call__(self, sample: Mapping[str, Any]) -> Value | Class:
        """The answer to one sample.

        Raises:
            TypeError, ValueError: the sample cannot be read; the message names what was wanted and what came.
        """
        answer = self.predict_each([sample])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def predict(self, samples: Iterable[Mapping[str, Any]]) -> list[Value | Class]:
        """The answers to many samples, in their order.

        Raises:
            TypeError, ValueError: as a call, for the first sample that cannot be read, with its position.
        """
        answers: list[Value | Class] = []
        for position, answer in enumerate(self.predict_each(samples)):
            if isinstance(answer, Exception):
                raise type(answer)(f"samples[{position}]: {answer}") from answer
            answers.append(answer)
        return answers

    def predict_each(self, samples: Iterable[Mapping[str, Any]]) -> list[Value | Class | TypeError | ValueError]:
        """The same with the error of a sample that cannot be read in its place: the others get their answers."""
        if isinstance(samples, Mapping | str | bytes) or not isinstance(samples, Iterable):
            raise TypeError(f"samples must be a list of samples, got {type(samples).__name__}")
        answers: list[Any] = []
        read: dict[int, dict[str, Tensor]] = {}
        with torch.inference_mode():
            for position, sample in enumerate(samples):
                answers.append(None)
                try:
                    read[position] = self.reader(sample)
                except (TypeError, ValueError) as error:
                    answers[position] = error
            # Neighbours in length together, so that few steps are padding.
            order = sorted(read, key=lambda position: [len(x) for x in read[position].values()])
            for start in range(0, len(order), self.max_batch_size):
                positions = order[start : start + self.max_batch_size]
                found = self._compute([read[position] for position in positions])
                for position, answer in zip(positions, found, strict=True):
                    answers[position] = answer
        return answers

    def _compute(self, samples: list[dict[str, Tensor]]) -> list[Value | Class]:
        """Of samples as the reader gives them."""
        inputs, masks = pad(samples)
        given = (inputs, masks) if self._is_masked else (inputs,)
        output = self._network(*given, output_only=True).output  # (batch, num_outputs)
        if not self.classes:
            return [Value(value) for value in output[:, 0].tolist()]
        rows = output.softmax(dim=1).tolist()
        named = [dict(zip(self.classes, row, strict=True)) for row in rows]
        return [Class(max(row, key=row.__getitem__), row) for row in named]


def with_text_encoder(
    task: DMDTask | BaselineTask | ReleasedTask, config: RunConfig, described: Mapping[str, Any]
) -> DMDTask | BaselineTask | ReleasedTask:
    """Give a network that was trained on the states of a frozen text encoder that encoder; others are left alone.

    Raises:
        ValueError: it cannot be loaded, or is another than in training.
    """
    if config.text == "frozen":
        encoder, found = load_encoder(config.text_encoder)
        if found != described["encoder"]:
            raise ValueError(f"text_encoder '{config.text_encoder}' is not the one that the run was trained with")
        task.text_encoder = TextEncoder(found["config"])
        task.text_encoder.encoder.load_state_dict(encoder.state_dict())
    return task


def pad(samples: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Samples, modality -> (time, dim), as (batch, time, dim) of at least one step, and which steps are real."""
    inputs, masks = {}, {}
    for name, first in samples[0].items():
        arrays = [sample[name] for sample in samples]
        lengths = torch.tensor([len(x) for x in arrays], device=first.device)
        steps = max(1, *map(len, arrays))
        inputs[name] = first.new_zeros(len(arrays), steps, first.shape[1])
        for row, x in zip(inputs[name], arrays, strict=True):
            row[: len(x)] = x
        masks[name] = torch.arange(steps, device=first.device) < lengths[:, None]
    return inputs, masks
