"""A trained model to pass on: `export.py --checkpoint DIR --out FOLDER` writes .pt2, .onnx, .json, or a hub folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import jsonargparse
from dmd.command import one_line_errors, with_underscores, writable_folder
from dmd.export import export_run


def run(checkpoint: str, out: str | None = None, format: Literal["graph", "hub"] = "graph") -> None:
    """Export a trained model.

    Args:
        checkpoint: folder of the run.
        out: folder of the files; by default the run's folder `export`, or `hub`.
        format: "graph" (model.pt2 and model.onnx, the predictions as programs that need no code of this project, and
            model.json, what they are called with) or "hub" (config.json, model.safetensors, results.json and a model
            card, README.md, for `PretrainedDMD.from_pretrained`).
    """
    if not Path(checkpoint).is_dir():
        raise FileNotFoundError(f"{checkpoint} is not the folder of a run: it has no config.json")
    folder = writable_folder(Path(out) if out else Path(checkpoint) / ("hub" if format == "hub" else "export"))
    if format == "hub":
        from dmd.hub import save_run  # huggingface_hub takes a second

        paths = save_run(Path(checkpoint), folder)
    else:
        paths = export_run(Path(checkpoint), folder)
    for path in paths:
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def main(arguments: list[str]) -> None:
    """Parse and export."""
    with one_line_errors():
        parser = jsonargparse.ArgumentParser(prog="export.py", exit_on_error=False)
        parser.add_function_arguments(run, None)
        run(**vars(parser.parse_args(with_underscores(arguments))))


if __name__ == "__main__":
    main(sys.argv[1:])
