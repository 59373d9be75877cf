"""One training run: epochs, selection on the validation split, checkpoints, and one reading of the test split."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs
from torch.utils.data import DataLoader
from tqdm import tqdm

from . import checkpoint as ckpt
from .config import RunConfig, without_modalities
from .data import Batch, Recordings, for_training, make_loader, standardization_statistics
from .data.recordings import is_labelled
from .environment import check_machine, peak_memory_mb, versions
from .evaluation import edge_names, evaluate
from .graph_report import report_graphs
from .graphed_step import CUDARecorder, GraphedStep
from .metrics import SELECTION
from .report import write_run
from .text import load_pretrained_text, parameter_groups
from .training_step import TrainingStep, why_not_graphed

# What may differ when a run goes on: where it runs and how long, not what it computes.
FREE_FIELDS = ("out", "device", "num_workers", "graph", "pictures", "epochs", "patience")


class Run:
    """Everything of one run that can be checked before it starts; :meth:`train` then does the work.

    Nothing is written before that, so that of several runs all are checked first.

    Args:
        config: with ``out`` set.
        recordings: the data.
        resume: go on after the last finished epoch in ``config.out``.

    Raises:
        ValueError: if the folder holds a run and ``resume`` is off, or holds one of another configuration.
    """

    def __init__(self, config: RunConfig, recordings: Recordings, *, resume: bool = False) -> None:
        config = without_modalities(config, recordings.names)
        recordings = for_training(recordings, config)
        self.config, self.recordings = config, recordings
        self.out = Path(config.out or ckpt.default_folder(config.data))
        check_machine(config.device)
        for split, part in recordings.splits.items():
            if split != "test" and not is_labelled(part).any():
                raise ValueError(f"{recordings.path} has no labelled sample in split {split!r}")
        if resume:
            if (self.out / "config.json").is_file():
                ckpt.check_same_run(self.out, self.config, recordings, free=FREE_FIELDS)
        elif ckpt.holds_run(self.out):
            raise ValueError(f"{self.out} already holds a run; --resume {self.out} goes on, another --out starts anew")
        distillation = config.objective.distillation
        self.metric, self.mode = SELECTION[recordings.metrics]
        torch.manual_seed(config.seed)
        self.task = ckpt.build_task(config, ckpt.describe(recordings))
        centred = config.model.standardize == "sample"
        self.task.model.adapter.fit(standardization_statistics(recordings.splits["train"], centred=centred))
        load_pretrained_text(self.task, config)
        self.checkpoint = ckpt.last_epoch(self.out) if resume else None
        self.state: dict[str, Any] = {"epoch": 0, "history": [], "edges": [], "seconds": 0.0}
        if self.checkpoint is not None:
            ckpt.load_weights(self.out / "model.safetensors", self.task)  # the best epoch's, read again at the end
            self.state = ckpt.load_epoch(self.checkpoint, self.task)
        self.accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision=config.precision,
            gradient_accumulation_steps=config.accumulation,
            log_with="tensorboard",
            project_dir=self.out,
            dataloader_config=DataLoaderConfiguration(non_blocking=True),
            # A scorer that no distance moves has no gradient to wait for.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=distillation.detach_weights)],
        )
        if config.precision == "fp16" and self.accelerator.device.type == "cpu":
            raise ValueError("precision 'fp16' needs a GPU; a CPU computes in 'no' (float32) or 'bf16'")

    @property
    def is_finished(self) -> bool:
        """Whether results.json is there, and no more epochs are asked for."""
        done = self.state["epoch"] >= self.config.epochs or self._since_best() >= self.config.patience
        return done and (self.out / "results.json").is_file()

    def _best(self) -> dict[str, Any]:
        """The epoch whose weights are kept: the best so far, the earlier one of equals; or simply the last."""
        if self.config.keep == "last":
            return self.state["history"][-1]
        sign = 1 if self.mode == "min" else -1

        def rank(row: Mapping[str, Any]) -> float:
            value = row["valid"][self.metric]
            return math.inf if math.isnan(value) else sign * value

        return min(self.state["history"], key=rank)

    def _since_best(self) -> int:
        return self.state["epoch"] - self._best()["epoch"] if self.state["history"] else 0

    def train(self) -> dict[str, Any]:
        """Train to the end, write everything, and return the content of results.json."""
        config, splits = self.config, self.recordings.splits
        accelerator = self.accelerator
        accelerator.init_trackers("tensorboard")
        groups = parameter_groups(self.task, config)
        rates = [group["lr"] for group in groups]
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
        obstacle = why_not_graphed(config, accelerator) if config.graph else None
        graphed = config.graph and obstacle is None
        loader = make_loader(
            splits["train"],
            config.batch_size,
            shuffle=True,
            seed=config.seed,
            num_workers=config.num_workers,
            pin_memory=accelerator.device.type == "cuda",
            full_length=graphed,  # batches of one shape share a graph
        )
        order = loader.generator
        if "optimizer" in self.state:
            optimizer.load_state_dict(self.state["optimizer"])
        scaler = accelerator.scaler  # of fp16's losses; None otherwise
        if scaler is not None and "scaler" in self.state:
            scaler.load_state_dict(self.state["scaler"])
        valid = make_loader(splits["valid"], config.batch_size)
        self.module, optimizer, loader, valid = accelerator.prepare(self.task, optimizer, loader, valid)
        self.step = TrainingStep(self.module, optimizer, accelerator, config.clip_norm, rates, capturable=graphed)
        self.run_step = GraphedStep(self.step, CUDARecorder()) if graphed else self.step
        accelerator.print(self._heading())
        if obstacle is not None:
            accelerator.print(f"graph: not used, because {obstacle}")
        while self.state["epoch"] < config.epochs and self._since_best() < config.patience:
            started, epoch = time.perf_counter(), self.state["epoch"] + 1
            # All chance of an epoch follows from seed and number, so a resumed run repeats it exactly.
            chance = config.seed * 100_003 + epoch
            order.manual_seed(chance)
            torch.manual_seed(chance + 7_919 * accelerator.process_index)
            terms = self._train_epoch(loader, epoch)
            judged = evaluate(self.module, valid, self.recordings, "valid", accelerator)
            self.task.set_quality(judged["node_losses"])
            rate = float(optimizer.param_groups[0]["lr"])
            self._record(terms, judged, rate, time.perf_counter() - started)
            if accelerator.is_main_process:
                if self._best()["epoch"] == epoch:
                    ckpt.save_weights(self.out / "model.safetensors", self.task)
                state = self.state | {"optimizer": optimizer.state_dict()}
                ckpt.save_epoch(self.out, epoch, self.task, state | ({"scaler": scaler.state_dict()} if scaler else {}))
            accelerator.wait_for_everyone()
        return self._finish(valid)

    def _train_epoch(self, loader: DataLoader[Batch], epoch: int) -> dict[str, float]:
        """One pass; every batch counts in a step, also where ``accumulation`` does not divide their number."""
        config, num_batches = self.config, len(loader)
        steps_an_epoch = math.ceil(num_batches / config.accumulation)
        self.module.train()
        total = torch.zeros((), device=self.accelerator.device)
        hidden = None if self.accelerator.is_main_process else True  # None: hidden where the screen is not a terminal
        for position, batch in enumerate(tqdm(loader, f"epoch {epoch}/{config.epochs}", leave=False, disable=hidden)):
            step = (epoch - 1) * steps_an_epoch + position // config.accumulation
            self.step.set_rates(schedule(step, config.epochs * steps_an_epoch))
            # The last step of an epoch may have fewer batches; accelerate divides by the full number all the same.
            group = min(config.accumulation, num_batches - position // config.accumulation * config.accumulation)
            total = total + self.run_step(batch, config.accumulation / group)  # (term,)
        means = self.accelerator.reduce(total / num_batches, "mean")
        return dict(zip(self.step.terms, means.tolist(), strict=True))

    def _record(self, terms: dict[str, float], judged: dict[str, Any], learning_rate: float, seconds: float) -> None:
        """Keep an epoch's numbers, send them to TensorBoard, and say a line."""
        state = self.state
        state["epoch"] += 1
        state["seconds"] += seconds
        epoch, valid = state["epoch"], judged["terms"] | judged["metrics"]
        numbers = {"learning_rate": learning_rate, "seconds": seconds}
        state["history"].append({"epoch": epoch, "train": terms, "valid": valid, **numbers})
        scalars = {f"train/{name}": value for name, value in terms.items()}
        scalars |= {f"valid/{name}": value for name, value in valid.items()}
        for unit, weights in judged["edges"].items():
            for (source, target), weight in zip(edge_names(self.task), weights, strict=True):
                row = {"epoch": epoch, "unit": unit, "source": source, "target": target, "weight": weight}
                state["edges"].append(row)
                scalars[f"{unit}/{source}_to_{target}"] = weight
        self.accelerator.log(scalars | numbers, step=epoch)
        best = "  best so far" if self.config.keep == "best" and self._best()["epoch"] == epoch else ""
        value = f"valid {self.metric} {valid[self.metric]:.4f}"
        self.accelerator.print(
            f"epoch {epoch:3d}  loss {terms['loss']:8.4f}  {value}  {seconds:5.1f} s{best}", flush=True
        )

    def _finish(self, valid: DataLoader[Batch]) -> dict[str, Any]:
        """Read the test split, once, with the best epoch's weights, and write what the run found."""
        accelerator, recordings, out = self.accelerator, self.recordings, self.out
        ckpt.load_weights(out / "model.safetensors", self.task)
        test = accelerator.prepare(make_loader(recordings.splits["test"], self.config.batch_size))
        judged = {
            "valid": evaluate(self.module, valid, recordings, "valid", accelerator),
            "test": evaluate(self.module, test, recordings, "test", accelerator),
        }
        results = {
            "test": judged["test"]["metrics"],
            "valid": judged["valid"]["metrics"] if self.config.train_on == "train" else {},
            "graphs": report_graphs(self.task, judged["valid"], unseen=self.config.train_on == "train"),
            "best_epoch": self._best()["epoch"],
            "config": asdict(self.config),
            "seed": self.config.seed,
            "versions": versions(),
            "data": {"path": recordings.path, "sha256": recordings.sha256, "sizes": recordings.sizes},
            "seconds": self.state["seconds"],
            "peak_memory_mb": peak_memory_mb(),
        }
        if accelerator.is_main_process:
            write_run(out, results, judged, self.state, recordings, with_pictures=self.config.pictures)
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.wait_for_everyone()
        return results

    def _heading(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.task.parameters())
        sizes = ", ".join(f"{split} {size}" for split, size in self.recordings.sizes.items())
        start = f", from epoch {self.state['epoch'] + 1}" if self.state["epoch"] else ""
        device = f"{self.accelerator.device}, {self.accelerator.num_processes} process(es)"
        return f"{self.config.data}: {sizes}; {parameters:,} parameters on {device}; into {self.out}{start}"


def schedule(step: int, total: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down to 0 as a cosine."""
    rise = min(1.0, (step + 1) / max(1.0, 0.1 * total))
    return rise * 0.5 * (1 + math.cos(math.pi * step / total))
