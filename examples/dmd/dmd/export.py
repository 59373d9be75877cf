"""A trained network as a file that needs no code of this project: a torch.export program and an ONNX graph.

Both read a batch of padded sequences and which of their steps are real, and give the predictions. Standardisation is
inside; losses, GD-Units, reconstructions and whatever else only training reads are not.
"""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .baselines import BaselineTask
from .checkpoint import load_network, read_config
from .released_objective import ReleasedTask
from .report import write_json
from .task import DMDTask

PACKAGES = ("onnx", "onnxscript")


class ServedNetwork(nn.Module):
    """Predictions and nothing else.

    Shape:
        - inputs: modality -> (batch, time, dim), raw, what is not real is never read; masks: modality -> (batch, time)
          boolean, a row of False is an absent modality. Returns values (batch,), or of classes logits and
          probabilities, each (batch, class). An imported checkpoint has no masks: there, zeros are what is not real.
    """

    def __init__(self, task: DMDTask | BaselineTask | ReleasedTask) -> None:
        super().__init__()
        self.model = copy.deepcopy(task.model).eval()
        self.is_regression, self.is_masked = task.is_regression, not isinstance(task, ReleasedTask)
        self.spare = {} if not self.is_masked else spare_steps(self.model.adapter)

    def forward(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        if masks is None:
            output = self.model(inputs, output_only=True).output
        else:
            inputs = {name: F.pad(inputs[name], (0, 0, 0, spare)) for name, spare in self.spare.items()}
            masks = {name: F.pad(masks[name], (0, spare)) for name, spare in self.spare.items()}
            output = self.model(inputs, masks, output_only=True).output
        return output[:, 0] if self.is_regression else (output, output.softmax(dim=1))


def spare_steps(front: Any) -> dict[str, int]:
    """Padding of each modality by which at least two steps are left of any number of them, however many are joined.

    torch.export takes a size that may be 1 for another program.
    """
    joined = {}
    for name, pool in front.adapter.pool.items():
        stem = front.stems[name] if front.stems else None
        joined[name] = pool * (1 if stem is None else stem.stride ** len(stem.layers))
    return {name: steps if steps > 1 else 0 for name, steps in joined.items()}


def example(described: Mapping[str, Any], task: nn.Module) -> tuple[dict[str, Tensor], ...]:
    """Inputs and masks that a network is traced with; of fixed lengths where it has them, and then without masks."""
    generator = torch.Generator().manual_seed(0)
    fixed = task.model.config.steps if isinstance(task, ReleasedTask) else {}
    steps = {name: fixed.get(name, 24 + 5 * place) for place, name in enumerate(described["dims"])}
    inputs = {name: torch.randn(3, steps[name], dim, generator=generator) for name, dim in described["dims"].items()}
    masks = {name: torch.ones(3, steps[name], dtype=torch.bool) for name in inputs}
    return (inputs,) if fixed else (inputs, masks)


def without_unused(network: nn.Module, given: tuple[Any, ...]) -> nn.Module:
    """Take away every parameter and buffer that the predictions do not depend on, which no gradient reaches."""
    tensors = [
        (module, kind, name, tensor)
        for module in network.modules()
        for kind in ("_parameters", "_buffers")
        for name, tensor in getattr(module, kind).items()
        if tensor is not None and tensor.is_floating_point()
    ]
    for *_, tensor in tensors:
        tensor.requires_grad_()
    output = network(*given)
    (output if isinstance(output, Tensor) else output[0]).sum().backward()
    for module, kind, name, tensor in tensors:
        reached = tensor.grad is not None
        tensor.grad = None
        tensor.requires_grad_(False)
        if not reached:
            getattr(module, kind)[name] = None
    return network


def export_program(
    task: DMDTask | BaselineTask | ReleasedTask, described: Mapping[str, Any]
) -> torch.export.ExportedProgram:
    """The program of a trained network for any batch size and any lengths of at least one step."""
    given = example(described, task)
    network = without_unused(ServedNetwork(task), given)
    batch = torch.export.Dim("batch", min=1)
    axes = {}
    for place, name in enumerate(described["dims"]):
        steps = {} if len(given) == 1 else {1: torch.export.Dim(f"steps_{place}", min=1)}
        axes[name] = {0: batch, **steps}
    return torch.export.export(network, given, dynamic_shapes=(axes,) * len(given))


def to_onnx(program: torch.export.ExportedProgram, described: Mapping[str, Any], path: Path) -> None:
    """Write the program as an ONNX graph whose inputs, outputs and axes are called as :func:`describe_graph` says."""
    graph = describe_graph(program, described)
    names = [each[kind] for kind in ("input", "mask") for each in graph["modalities"].values() if each[kind]]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # which operators of packages that are not installed it does without
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            outputs = graph["outputs"]
            made = torch.onnx.export(program, (), dynamo=True, input_names=names, output_names=outputs, verbose=False)
    finally:
        logger.setLevel(level)
    import onnx_ir

    for value in made.model.graph.inputs:
        modality = value.name.removesuffix(".mask")
        fixed = graph["modalities"][modality]["steps"]
        value.shape = onnx_ir.Shape(["batch", fixed or f"{modality}_steps", *value.shape[2:]])
    for value in made.model.graph.outputs:
        value.shape = onnx_ir.Shape(["batch", *value.shape[1:]])
    made.save(str(path))


def describe_graph(program: torch.export.ExportedProgram, described: Mapping[str, Any]) -> dict[str, Any]:
    """What a user of the files must know."""
    (inputs, *masks), _ = program.example_inputs
    return {
        "task": described["task"],
        "classes": list(described["classes"]),
        "modalities": {
            name: {
                "input": name,
                "mask": f"{name}.mask" if masks else None,
                "width": dim,
                "steps": None if masks else inputs[name].shape[1],
            }
            for name, dim in described["dims"].items()
        },
        "outputs": ["logits", "probabilities"] if described["classes"] else ["value"],
    }


def export_run(folder: Path, out: Path) -> list[Path]:
    """Write model.pt2, model.onnx and model.json of a run.

    Raises:
        FileNotFoundError: the folder holds no trained network.
        ValueError: a file is damaged, the network reads token ids, or a package is missing.
    """
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        raise ValueError(f"export needs {' and '.join(missing)}: install the 'export' extra")
    config, described = read_config(folder)
    if config.text == "finetune":
        raise ValueError(f"{folder} trained its text encoder along: a network that reads token ids is not exported")
    task = load_network(folder, config, described)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"model.{suffix}" for suffix in ("pt2", "onnx", "json")]
    program = export_program(task.eval(), described)
    torch.export.save(program, paths[0])
    to_onnx(program, described, paths[1])
    kind = None if isinstance(task, ReleasedTask) else config.model.standardize
    notes = {"standardize": kind, "standardized_inside": True, "float": "float32", "torch": torch.__version__}
    if config.text == "frozen":
        notes["language"] = f"last hidden states of the text encoder {config.text_encoder}"
    write_json(paths[2], describe_graph(program, described) | notes)
    return paths
