"""Where a run's numbers go while it trains: TensorBoard, W&B, MLflow and trackio, through accelerate.

A run that is gone on with stays the same run of its tracker, and an epoch that is done again is not logged again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from .report import write_json

PROJECT = "gdkit"  # what W&B and trackio call a project, and MLflow an experiment
FILE = "trackers.json"  # by what names the trackers know the run


class _TensorBoard(TensorBoardTracker):
    """Events in the folder of the run, hyperparameters among them."""

    def __init__(self, out: Path, known: Mapping[str, str], epoch: int) -> None:
        # A reader forgets what an earlier process has written of the epochs that follow.
        super().__init__("tensorboard", out, purge_step=epoch + 1)
        self.is_known = any((out / "tensorboard").glob("events.*"))
        self.identity: dict[str, str] = {}
        self.last = epoch

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Write them beside the scalars; accelerate's own way makes another run of them."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(values, {"valid/loss": 0}):
            self.writer.file_writer.add_summary(summary)
        self.writer.flush()


class _WandB(WandBTracker):
    """A run whose files are in the folder of the run, W&B's own mode and account."""

    def __init__(self, out: Path, known: Mapping[str, str], epoch: int) -> None:
        self.is_known = "wandb" in known
        self.identity = {"wandb": known.get("wandb") or secrets.token_hex(4)}
        options = {"id": self.identity["wandb"], "name": _label(out), "dir": str(out), "resume": "allow"}
        super().__init__(os.environ.get("WANDB_PROJECT", PROJECT), **options)
        self.last = 0  # W&B drops what it has already


class _MLflow(MLflowTracker):
    """A run of MLflow's own store."""

    def __init__(self, out: Path, known: Mapping[str, str], epoch: int) -> None:
        self.is_known = "mlflow" in known
        super().__init__(PROJECT, run_id=known.get("mlflow"), run_name=_label(out))

    def start(self) -> None:
        """Go on where the run has stopped, if there is one."""
        super().start()
        from mlflow import MlflowClient

        number = self.active_run.info.run_id
        self.identity = {"mlflow": number}
        self.last = max((each.step for each in MlflowClient().get_metric_history(number, "train/loss")), default=0)

    def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
        """Log; MLflow refuses names with other signs."""
        super().log({re.sub(r"[^/\w.\- :]", "_", name): value for name, value in values.items()}, step, **options)


class _Trackio(TrackioTracker):
    """A run of trackio's own store, which knows runs by their names."""

    def __init__(self, out: Path, known: Mapping[str, str], epoch: int) -> None:
        self.is_known = "trackio" in known
        self.identity = {"trackio": known.get("trackio") or f"{_label(out)}-{secrets.token_hex(4)}"}
        super().__init__(PROJECT, name=self.identity["trackio"], resume="allow", embed=False)

    def start(self) -> None:
        """Go on where the run has stopped, if there is one."""
        super().start()
        self.last = getattr(self.run, "_next_step", 1) - 1  # not public: without it an epoch may be logged twice


TRACKERS = {"tensorboard": _TensorBoard, "wandb": _WandB, "mlflow": _MLflow, "trackio": _Trackio}


def _label(out: Path) -> str:
    """How people find a run: the name of its folder, and of a run of several seeds that of all of them too."""
    folder = out.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name.startswith("seed-") else folder.name


def check_trackers(names: Sequence[str]) -> None:
    """Check that they can be imported.

    Raises:
        ValueError: naming the package that is missing.
    """
    for name in names:
        found = find_spec(name)
        if found is None or found.origin is None:  # W&B's own folder ./wandb is not the package
            raise ValueError(f"trackers: {name!r} needs the package {name}, which is not installed: pip install {name}")


def make_trackers(names: Sequence[str], out: Path, epoch: int) -> list[GeneralTracker]:
    """The trackers of a run; nothing is written before :func:`start_trackers`.

    Args:
        names: of :data:`TRACKERS`.
        out: folder of the run.
        epoch: after which one the run goes on; 0: it is new.

    Raises:
        ValueError: trackers.json is damaged.
    """
    path = out / FILE
    known = {}
    if path.is_file():
        try:
            known = {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: it must hold a name for each tracker") from error
    return [TRACKERS[name](out, known, epoch) for name in names]


@contextmanager
def _named(tracker: GeneralTracker) -> Iterator[None]:
    """Errors of a tracker, of whatever class its package makes them, as one that names it and ends the run in a line.

    Raises:
        OSError: as said.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"tracker {tracker.name}: {str(error).strip() or type(error).__name__}") from error


def start_trackers(accelerator: Accelerator, out: Path, hyperparameters: Mapping[str, Any]) -> None:
    """Start every tracker, in the first process; those that do not know the run are told its hyperparameters.

    Raises:
        OSError: a tracker cannot start, for instance because nobody is logged in.
    """
    if not accelerator.is_main_process:
        return
    for tracker in accelerator.log_with:
        with _named(tracker):
            tracker.start()
            accelerator.trackers.append(tracker)
            if not tracker.is_known:
                kinds = bool, int, float, str
                tracker.store_init_configuration(
                    {name: each if isinstance(each, kinds) else str(each) for name, each in hyperparameters.items()}
                )
    path = out / FILE
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    identities = known | {key: value for each in accelerator.trackers for key, value in each.identity.items()}
    if identities != known:
        write_json(path, identities)


def log_epoch(accelerator: Accelerator, scalars: Mapping[str, float], epoch: int) -> None:
    """Send an epoch's numbers to every tracker that lacks them.

    Raises:
        OSError: a tracker cannot take them.
    """
    for tracker in accelerator.trackers:
        if epoch > tracker.last:
            with _named(tracker):
                tracker.log(dict(scalars), step=epoch)


def finish_trackers(accelerator: Accelerator) -> None:
    """Close every tracker, however the run has ended."""
    trackers, accelerator.trackers = accelerator.trackers, []
    for tracker in trackers:
        with _named(tracker):
            tracker.finish()
