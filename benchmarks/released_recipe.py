"""The published network trained by its published recipe, on any file of language, vision and acoustic sequences.

Adam with 1e-4, batches of 16; gradients are summed over 10 batches and cut at +-0.6 after every one of them; what is
left of an epoch counts in no step; half the learning rate after 5 epochs without a better validation loss; stop after
10. Here the weights of the best validation epoch are kept and the test split is read once, with them; the published
program reads it every epoch. Deviations from the recipe must be named, and results.json holds them:

    python benchmarks/released_recipe.py --data FILE --seed 0 --epochs 100 --out runs/released
    python benchmarks/released_recipe.py --data FILE --seed 0 --epochs 30 --out runs/released --step-every 1 \
        --learning-rate 3e-4 --attention-dropout 0
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "dmd"))
from dmd.command import one_line_errors, writable_folder
from dmd.data import Batch, Recordings, load, make_loader
from dmd.environment import peak_memory_mb, versions
from dmd.evaluation import evaluate
from dmd.released import NAMES, ReleasedConfig, ReleasedNetwork, ReleasedObjective, ReleasedTask
from dmd.report import results_table, write_json, write_predictions_csv


def network_config(recordings: Recordings, arguments: argparse.Namespace) -> ReleasedConfig:
    """The published sizes for MOSI, with the widths and the longest sequences of this file.

    Raises:
        ValueError: the file is not of language, vision and acoustic with real labels.
    """
    if set(recordings.names) != set(NAMES) or recordings.task != "regression":
        names = ", ".join(recordings.names)
        raise ValueError(
            f"the published network is a regression from {', '.join(NAMES)}; "
            f"{recordings.path} is a {recordings.task} from {names}"
        )
    kernel, steps = ReleasedConfig().kernel_size, {}
    for name in NAMES:
        lengths = [len(x) for split in recordings.splits.values() for x in split.inputs[name]]
        steps[name] = max(kernel[name], *lengths)
    options: dict[str, Any] = {"input_dims": {name: recordings.dims[name] for name in NAMES}, "steps": steps}
    if arguments.attention_dropout is not None:
        options["attention_dropout"] = dict.fromkeys((*NAMES, "memory"), arguments.attention_dropout)
    return ReleasedConfig(**options)


def train_epoch(task: ReleasedTask, loader: DataLoader[Batch], optimizer: torch.optim.Optimizer, every: int) -> float:
    """One pass; returns the mean loss of its batches."""
    task.train()
    total = 0.0
    for position, batch in enumerate(loader):
        if position % every == 0:
            optimizer.zero_grad()  # also forgets what an epoch left
        loss = task(batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_value_(task.parameters(), 0.6)
        if (position + 1) % every == 0:
            optimizer.step()
        total += loss.item()
    return total / len(loader)


def train(recordings: Recordings, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, read the test split once, and return the content of results.json.

    Raises:
        FloatingPointError: the validation split cannot be judged, or its error is not finite.
    """
    torch.manual_seed(arguments.seed)
    task = ReleasedTask(ReleasedNetwork(network_config(recordings, arguments)), ReleasedObjective())
    accelerator = Accelerator(cpu=arguments.device == "cpu")
    optimizer = torch.optim.Adam(task.parameters(), lr=arguments.learning_rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
    splits = recordings.splits
    batches = make_loader(splits["train"], arguments.batch_size, shuffle=True, seed=arguments.seed)
    loader = accelerator.prepare(batches)
    task.to(accelerator.device)
    valid = accelerator.prepare(make_loader(splits["valid"], 64))
    best: dict[str, Any] = {"mae": float("inf"), "epoch": 0}
    history: list[dict[str, Any]] = []
    for epoch in range(1, arguments.epochs + 1):
        started, worked = time.perf_counter(), time.process_time()
        loss = train_epoch(task, loader, optimizer, arguments.step_every)
        try:
            mae = evaluate(task, valid, recordings, "valid", accelerator)["metrics"]["mae"]
        except ValueError as error:  # so are predictions refused that are not finite
            raise FloatingPointError(f"epoch {epoch}, training loss {loss}, split valid: {error}") from error
        if not math.isfinite(mae):
            raise FloatingPointError(f"epoch {epoch}, training loss {loss}: the MAE of valid must be finite, got {mae}")
        scheduler.step(mae)
        seconds, work = time.perf_counter() - started, time.process_time() - worked
        history.append({"epoch": epoch, "loss": loss, "valid_mae": mae, "seconds": seconds, "cpu_seconds": work})
        if mae <= best["mae"] - 1e-6:
            best = {"mae": mae, "epoch": epoch, "weights": copy.deepcopy(task.state_dict())}
        print(f"epoch {epoch:3d}  loss {loss:8.4f}  valid mae {mae:.4f}  {seconds:5.1f} s", flush=True)
        if epoch - best["epoch"] >= 10:
            break
    task.load_state_dict(best["weights"])
    judged = {
        name: evaluate(task, accelerator.prepare(make_loader(splits[name], 64)), recordings, name, accelerator)
        for name in ("valid", "test")
    }
    write_json(arguments.out / "history.json", history)
    write_predictions_csv(arguments.out / "predictions.csv", {name: x["predictions"] for name, x in judged.items()})
    recipe = {name: value for name, value in vars(arguments).items() if name not in ("out", "data", "seed")}
    return {
        "test": judged["test"]["metrics"],
        "valid": judged["valid"]["metrics"],
        "best_epoch": best["epoch"],
        "recipe": recipe | {"network": vars(task.model.config), "objective": vars(task.config)},
        "edges": judged["test"]["edges"],
        "seed": arguments.seed,
        "versions": versions(),
        "data": {"path": recordings.path, "sha256": recordings.sha256, "sizes": recordings.sizes},
        "seconds": sum(row["seconds"] for row in history),
        "seconds_per_epoch": sum(row["seconds"] for row in history) / len(history),
        "cpu_seconds_per_epoch": sum(row["cpu_seconds"] for row in history) / len(history),
        "peak_memory_mb": peak_memory_mb(),
    }


def check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what no recipe can be.

    Raises:
        ValueError: naming the option and its value.
    """
    for name in ("epochs", "batch_size", "step_every"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(arguments, name)}")
    if not 0 < arguments.learning_rate < math.inf:
        raise ValueError(f"learning_rate must be above 0 and finite, got {arguments.learning_rate}")
    if arguments.attention_dropout is not None and not 0 <= arguments.attention_dropout < 1:
        raise ValueError(f"attention_dropout must be in [0, 1), got {arguments.attention_dropout}")
    if not 0 <= arguments.seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {arguments.seed}")


def main(given: list[str] | None = None) -> None:
    """Parse, check, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an MMSA .pkl file, or 'synthetic'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=100, help="at most")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json and predictions.csv")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--step-every", type=int, default=10, help="batches whose gradients make a step")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--attention-dropout", type=float, help="one rate for all, where not the published ones")
    parser.add_argument("--device", choices=("auto", "cpu"), default="cpu")
    arguments = parser.parse_args(given)
    with one_line_errors():
        check_arguments(arguments)
        recordings = load(arguments.data)
        network_config(recordings, arguments)
        if (writable_folder(arguments.out) / "results.json").is_file():
            raise ValueError(f"{arguments.out} already holds a run")
    try:
        results = train(recordings, arguments)
    except FloatingPointError as error:
        sys.exit(f"error: {error}")
    write_json(arguments.out / "results.json", results)
    wall, work = results["seconds_per_epoch"], results["cpu_seconds_per_epoch"]
    print(f"\n{results_table(results)}\n{wall:.1f} s an epoch, of which {work:.1f} s on the CPU")


if __name__ == "__main__":
    main()
