"""A published DMD checkpoint as a run of this project: `python examples/dmd/import_released.py dmd.pth runs/dmd`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import jsonargparse
from dmd.command import one_line_errors, with_underscores
from dmd.released_checkpoint import import_published


def run(
    published: str,
    out: str,
    dataset: Literal["mosi", "mosei"] | None = None,
    setting: Literal["aligned", "unaligned"] | None = None,
    num_heads: int | None = None,
) -> None:
    """Import a checkpoint of the published DMD program, for evaluate.py and predict.py.

    Sizes come from the weights. What they do not show, heads and dropout, comes with the data set.

    Args:
        published: the .pth file: a plain state dict; a fine-tuned BERT's weights (text_model.*) go along.
        out: folder of the run to write.
        dataset: whose settings it was trained with; by default what the weights' width says (50: mosi, 30: mosei).
        setting: check that the lengths are those of this setting.
        num_heads: attention heads, where they are not the data set's (mosi 10, mosei 6).
    """
    folder = Path(out)
    config = import_published(Path(published), folder, dataset, setting, num_heads)
    steps = ", ".join(f"{name} {config.steps[name]} x {width}" for name, width in config.input_dims.items())
    print(f"{folder}: {steps}; width {config.dim}, {config.num_heads} heads, {config.num_layers} layers")
    print("The published file has no GD-Units: all their edges are equal here.")
    print(f"Next: python examples/dmd/evaluate.py {folder} --data FILE")


def main(arguments: list[str]) -> None:
    """Parse and import."""
    with one_line_errors():
        parser = jsonargparse.ArgumentParser(prog="import_released.py", exit_on_error=False)
        parser.add_function_arguments(run, None, as_positional=True)
        run(**vars(parser.parse_args(with_underscores(arguments))))


if __name__ == "__main__":
    main(sys.argv[1:])
