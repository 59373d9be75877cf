"""One training run: epochs, selection on the validation split, checkpoints, and one reading of the test split."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader

from . import checkpoint as ckpt
from .config import FREE_FIELDS, RunConfig, flat_fields, without_modalities
from .data import Batch, Recordings, for_training, make_loader, standardization_statistics, training_loader
from .data.recordings import is_labelled
from .environment import check_machine, make_accelerator, peak_memory_mb, versions
from .epoch import Epoch
from .evaluation import edge_names, evaluate
from .finite import FiniteWatch, NotFinite
from .graph_report import report_graphs
from .graphed_step import CUDARecorder, GraphedStep
from .metrics import SELECTION, best_epoch
from .report import finished_epochs, heading, write_json, write_run
from .stopping import Stopped, StopRequest
from .text import load_pretrained_text, parameter_groups
from .trackers import finish_trackers, log_epoch, start_trackers
from .training_state import load_checkpoint, restore_optimizer, weights_of, write_checkpoint
from .training_step import TrainingStep, why_not_graphed


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
        check_machine(config.device, config.trackers)
        for split, part in recordings.splits.items():
            if split != "test" and not is_labelled(part).any():
                raise ValueError(f"{recordings.path} has no labelled sample in split {split!r}")
        if resume:
            if (self.out / "config.json").is_file():
                ckpt.check_same_run(self.out, self.config, recordings, free=FREE_FIELDS)
        elif ckpt.holds_run(self.out):
            raise ValueError(f"{self.out} already holds a run; --resume {self.out} goes on, another --out starts anew")
        torch.manual_seed(config.seed)
        self.task = ckpt.build_task(config, ckpt.describe(recordings))
        centred = config.model.standardize == "sample"
        self.task.model.adapter.fit(standardization_statistics(recordings.splits["train"], centred=centred))
        load_pretrained_text(self.task, config)
        self.state: dict[str, Any] = {"epoch": 0, "step": 0, "history": [], "edges": [], "seconds": 0.0, "skipped": 0}
        # Of the epoch that runs: samples done, how it is ordered, sums of the terms, their names, last rate, seconds.
        self.state |= {"seen": 0, "bucket": None, "totals": None, "terms": [], "rate": 0.0, "spent": 0.0}
        self.checkpoint, self.unusable = load_checkpoint(self.out, self.task) if resume else (None, [])
        self.best: dict[str, Tensor] | None = None
        self.newest: Path | None = None
        if resume and self.checkpoint is None and (self.out / "results.json").is_file():
            raise ValueError(f"{self.out} holds a finished run without checkpoints, so nothing to go on from")
        if self.checkpoint is not None:
            self.newest, self.state, _, self.best = self.checkpoint
        self.accelerator = make_accelerator(config, self.out, self.state["epoch"])

    @property
    def is_finished(self) -> bool:
        """Whether results.json is there, and no more epochs are asked for."""
        epoch = self.state["epoch"]
        done = epoch >= self.config.epochs or self._since_best() >= self.config.patience
        # A run that was given more epochs, and did not come to their end, has the results of fewer.
        return done and finished_epochs(self.out) in (epoch, -1)

    def _best(self) -> dict[str, Any]:
        """The epoch whose weights are kept."""
        history = self.state["history"]
        return history[-1] if self.config.keep == "last" else best_epoch(history, self.recordings.metrics)

    def _since_best(self) -> int:
        return self.state["epoch"] - self._best()["epoch"] if self.state["history"] else 0

    def train(self) -> dict[str, Any]:
        """Train to the end, write everything, and return the content of results.json.

        Raises:
            NotFinite: too many steps in a row were skipped. Stopped: a signal has come. OSError: something cannot be
                written. In each case the run can be gone on with from its last checkpoint.
        """
        try:
            with StopRequest() as stop:
                return self._train(stop)
        except Stopped as stopped:
            stopped.said = f"after epoch {self.state['epoch']}, step {self.state['step']}"
            raise
        except NotFinite as error:
            error.path, everyone = str(self.out / "not_finite.json"), gather_object([error.report])
            if self.accelerator.is_main_process:
                write_json(Path(error.path), {"processes": everyone} if len(everyone) > 1 else error.report)
            raise
        finally:
            finish_trackers(self.accelerator)

    def _train(self, stop: StopRequest) -> dict[str, Any]:
        config, state, accelerator = self.config, self.state, self.accelerator
        epoch, valid = self._prepare(stop)
        is_alone = accelerator.num_processes == 1
        while state["epoch"] < config.epochs and self._since_best() < config.patience:
            self._started, skipped = time.perf_counter() - state["spent"], state["skipped"]
            terms = epoch(state)
            try:
                with stop.at_once(alone=is_alone):
                    judged = evaluate(self.module, valid, self.recordings, "valid", accelerator)
            except Stopped:
                self._save()
                raise
            self.task.set_quality(judged["node_losses"])
            state["skipped"] = self.step.watch.skipped()
            self._record(terms, judged, time.perf_counter() - self._started, state["skipped"] - skipped)
            state.update(seen=0, bucket=None, totals=None, spent=0.0)
            if self._best()["epoch"] == state["epoch"]:
                self._keep(weights_of(self.task))
            self._save()
            accelerator.wait_for_everyone()
            if number := epoch.asked_to_stop(always=True):
                raise Stopped(number)
        with stop.at_once(
            alone=accelerator.num_processes == 1
        ):  # what follows is done again when the run is gone on with
            return self._finish(valid)

    def _prepare(self, stop: StopRequest) -> tuple[Epoch, DataLoader[Batch]]:
        """Everything that trains, as new or as the checkpoint has it; and the batches of the validation split."""
        config, accelerator, train = self.config, self.accelerator, self.recordings.splits["train"]
        start_trackers(accelerator, self.out, flat_fields(asdict(config)))
        obstacle = why_not_graphed(config, accelerator) if config.graph else None
        graphed = config.graph and obstacle is None
        groups = parameter_groups(self.task, config)
        rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
        watch = FiniteWatch(accelerator.device, config.max_skipped_steps)
        if self.checkpoint is not None:
            restore_optimizer(self.optimizer, self.checkpoint.optimizer)
            watch.restore(self.state["watch"])
            if accelerator.scaler is not None and "scaler" in self.state:  # of fp16's losses
                accelerator.scaler.load_state_dict(self.state["scaler"])
        if self.best is not None:
            self._keep(self.best)  # a kill may have left weights of an epoch that will be done again
        loader = training_loader(
            train,
            config.batch_size,
            seed=config.seed,
            bucket=config.bucket,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            num_workers=config.num_workers,
            pin_memory=accelerator.device.type == "cuda",
            full_length=graphed,  # batches of one shape share a graph
        )
        valid = make_loader(self.recordings.splits["valid"], config.batch_size)
        self.module, optimizer, valid = accelerator.prepare(self.task, self.optimizer, valid)
        parts = self.module, optimizer, accelerator
        self.step = TrainingStep(*parts, config.clip_norm, rates, watch, capturable=graphed)
        self.run_step = GraphedStep(self.step, CUDARecorder()) if graphed else self.step
        accelerator.print(heading(config.data, self.task, self.recordings, self.state, accelerator, self.out))
        if obstacle is not None:
            accelerator.print(f"graph: not used, because {obstacle}")
        parts = config, accelerator, self.step, self.run_step, loader, train.ids
        return Epoch(*parts, stop=stop, save=self._save), valid

    def _keep(self, weights: dict[str, Tensor]) -> None:
        self.best = weights
        if self.accelerator.is_main_process:
            ckpt.save_weights(self.out / "model.safetensors", weights)

    def _save(self) -> None:
        """Write a checkpoint of the run as it is."""
        state, scaler = self.state, self.accelerator.scaler
        state.update(watch=self.step.watch.state(), terms=list(self.step.terms) or state["terms"])
        if state["seen"]:
            state["spent"] = time.perf_counter() - self._started
        if scaler is not None:
            state["scaler"] = scaler.state_dict()
        if self.accelerator.is_main_process:
            is_best = state["history"] and state["seen"] == 0 and self._best()["epoch"] == state["epoch"]
            parts = self.task, self.optimizer, state, None if is_best else self.best
            self.newest = write_checkpoint(self.out, *parts, unusable=self.unusable, newest=self.newest)

    def _record(self, terms: dict[str, float], judged: dict[str, Any], seconds: float, skipped: int) -> None:
        """Keep an epoch's numbers, send them to the trackers, and say a line."""
        state = self.state
        state["epoch"] += 1
        state["seconds"] += seconds
        epoch, valid = state["epoch"], judged["terms"] | judged["metrics"]
        numbers = {"learning_rate": state["rate"], "seconds": seconds, "skipped_steps": skipped}
        state["history"].append({"epoch": epoch, "train": terms, "valid": valid, **numbers})
        scalars = {f"train/{name}": value for name, value in terms.items()}
        scalars |= {f"valid/{name}": value for name, value in valid.items()}
        for unit, weights in judged["edges"].items():
            for (source, target), weight in zip(edge_names(self.task), weights, strict=True):
                place = {"epoch": epoch, "unit": unit, "source": source, "target": target}
                state["edges"].append(place | {"weight": weight})
                scalars[f"{unit}/{source}_to_{target}"] = weight
        log_epoch(self.accelerator, scalars | numbers, epoch)
        note = f"  {skipped} steps skipped, not finite" if skipped else ""
        note += "  best so far" if self.config.keep == "best" and self._best()["epoch"] == epoch else ""
        metric, _ = SELECTION[self.recordings.metrics]
        value = f"valid {metric} {valid[metric]:.4f}"
        text = f"epoch {epoch:3d}  loss {terms['loss']:8.4f}  {value}  {seconds:5.1f} s{note}"
        self.accelerator.print(text, flush=True)

    def _finish(self, valid: DataLoader[Batch]) -> dict[str, Any]:
        """Read the test split, once, with the best epoch's weights, and write what the run found."""
        accelerator, recordings, out = self.accelerator, self.recordings, self.out
        self.task.load_state_dict(self.best or {})
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
            "epochs": self.state["epoch"],
            "config": asdict(self.config),
            "seed": self.config.seed,
            "versions": versions(),
            "data": {"path": recordings.path, "sha256": recordings.sha256, "sizes": recordings.sizes},
            "seconds": self.state["seconds"],
            "peak_memory_mb": peak_memory_mb(),
        }
        if accelerator.is_main_process:
            write_run(out, results, judged, self.state, recordings, with_pictures=self.config.pictures)
        accelerator.wait_for_everyone()
        return results
