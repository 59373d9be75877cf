"""A run's options as the command that starts it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..config import RunConfig, flat_fields

PLACES = ("out", "pictures", "device", "num_workers")  # where and how a run is kept, not what it computes


def command_of(config: RunConfig, processes: int = 1, seeds: Sequence[int] = ()) -> str:
    """`python examples/dmd/train.py ...` with every option that is not the default.

    Example:
        >>> command_of(RunConfig(data="my data.npz", epochs=3))
        "python examples/dmd/train.py --data 'my data.npz' --epochs 3"
    """
    options = changed_options(config)
    start = ["python"] if processes == 1 else ["torchrun", f"--nproc-per-node={processes}"]
    given = [text for name, value in options.items() if name not in PLACES for text in (f"--{name}", _spelled(value))]
    several = ["--seeds", *map(str, seeds)] if seeds else []
    return shlex.join([*start, "examples/dmd/train.py", *given, *several])


def changed_options(config: RunConfig) -> dict[str, Any]:
    """The options that are not the default."""
    default = flat_fields(asdict(RunConfig()))
    # A field that holds a mapping may be unknown to the defaults, and is then changed.
    return {name: value for name, value in flat_fields(asdict(config)).items() if default.get(name, default) != value}


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
