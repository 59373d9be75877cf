"""What ``print`` shows of graphs, units and outputs: a few nodes and edges all, many as a count; of tensors shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from gdkit.graph import DistillationGraph

FEW_NODES, FEW_EDGES = 8, 12  # that are written out
WIDTH = 120  # of a line


def graph_text(graph: DistillationGraph) -> str:
    """A small graph as Python would make it again; of a large one, how much there is of it."""
    if graph.num_nodes <= FEW_NODES and graph.num_edges <= FEW_EDGES:
        return f"DistillationGraph(names={graph.names!r}, edges={graph.edges!r})"
    return f"DistillationGraph({graph.num_nodes} nodes {_few(graph.names)}, {graph.num_edges} edges)"


def teaching_text(graph: DistillationGraph) -> str:
    """A line a teacher with its students; of a large graph one line."""
    if graph.num_nodes > FEW_NODES:
        return f"{graph.num_nodes} nodes {_few(graph.names)}, {graph.num_edges} edges"
    students = {teacher: [student for source, student in graph.edges if source == teacher] for teacher in graph.names}
    lines = [f"{teacher} -> {', '.join(taught)}" for teacher, taught in students.items() if taught]
    silent = [node for node, taught in students.items() if not taught]
    teaches = f" ({', '.join(silent)} teach{'es' * (len(silent) == 1)} none)" if silent else ""
    return "\n".join([f"{graph.num_nodes} nodes, {graph.num_edges} edges{teaches}:", *lines])


def output_text(output: Any) -> str:
    """A named tuple of tensors and mappings of such: dtype and shape of each, the value of a single number."""
    parts = [f"{name}={_value_text(value)}" for name, value in output._asdict().items()]
    name = type(output).__name__
    line = f"{name}({', '.join(parts)})"
    return line if len(line) <= WIDTH else "\n".join([f"{name}(", *(f"  {part}," for part in parts), ")"])


def _value_text(value: object) -> str:
    if isinstance(value, Mapping):
        shown = [f"{key!r}: {_value_text(each)}" for key, each in list(value.items())[:FEW_NODES]]  # pyright: ignore
        more = [f"... {len(value)} in all"] if len(value) > FEW_NODES else []  # pyright: ignore
        return "{" + ", ".join(shown + more) + "}"
    if not isinstance(value, Tensor) or value.dim() == 0:
        return repr(value)  # PyTorch's own, which also knows tensors without a value, such as on "meta"
    sizes = ", ".join(str(size) for size in value.shape)
    device = "" if value.device.type == "cpu" else f" {value.device}"
    return f"{str(value.dtype).removeprefix('torch.')}[{sizes}]{device}"


def _few(names: tuple[str, ...]) -> str:
    return f"({', '.join(names[:3])}, ..., {names[-1]})" if len(names) > FEW_NODES else f"({', '.join(names)})"
