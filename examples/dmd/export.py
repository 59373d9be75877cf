"""A trained model for use without this project: `export.py --checkpoint DIR --out FOLDER` writes .pt2, .onnx, .json."""

from __future__ import annotations

import sys
from pathlib import Path

import jsonargparse
from dmd.command import one_line_errors, with_underscores, writable_folder
from dmd.export import export_run


def run(checkpoint: str, out: str | None = None) -> None:
    """Export the predictions of a trained model: a torch.export program, an ONNX graph, and what they are called with.

    Args:
        checkpoint: folder of the run.
        out: folder of model.pt2, model.onnx and model.json; by default the run's folder `export`.
    """
    if not Path(checkpoint).is_dir():
        raise FileNotFoundError(f"{checkpoint} is not the folder of a run: it has no config.json")
    folder = writable_folder(Path(out) if out else Path(checkpoint) / "export")
    for path in export_run(Path(checkpoint), folder):
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def main(arguments: list[str]) -> None:
    """Parse and export."""
    with one_line_errors():
        parser = jsonargparse.ArgumentParser(prog="export.py", exit_on_error=False)
        parser.add_function_arguments(run, None)
        run(**vars(parser.parse_args(with_underscores(arguments))))


if __name__ == "__main__":
    main(sys.argv[1:])
