"""A step of training as one CUDA graph: recorded for each shape that its batches have, then replayed without Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

Function = Callable[[], Any]


class Recorder(Protocol):
    """What a graph is made with."""

    def run(self, function: Function) -> Any:
        """Run it once, where it will be recorded."""

    def record(self, function: Function) -> Function:
        """A function that does the same with the same memory; recording itself changes nothing."""


class CUDARecorder:
    """Records on a stream of its own; one graph runs after the other, so all share their memory."""

    def __init__(self) -> None:
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def run(self, function: Function) -> Any:
        """Run it once: what is made on first use (optimiser's state, compiled kernels) cannot be made in a graph."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = function()
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def record(self, function: Function) -> Function:
        """Its replay."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on meanwhile, such as the one that pins the memory of batches.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                result = function()
        except RuntimeError as error:
            error.add_note("this step cannot be recorded as a CUDA graph (does it read a value?); train without one")
            raise

        def replay() -> Any:
            graph.replay()
            return result

        return replay


class Recorded(NamedTuple):
    """A graph's own input, and what computes its result from it."""

    inputs: list[Any]
    replay: Function


class GraphedStep:
    """A step that runs as it is for the first batches of a shape, and is replayed from then on.

    Every call is one step, whether it runs, is recorded or replayed: training goes the same way as without this class.

    Args:
        step: from a batch, and whatever else it takes, to its results; all may be tensors in any nest, and what is no
            tensor counts as part of the shape. What outlives the step (weights, optimiser, buffers) it changes in
            place; it leaves no gradients behind, reads no value, and takes from elsewhere only tensors that stay where
            they are. A learning rate, for one, must be a tensor on the device.
        recorder: a :class:`CUDARecorder`.
        warm_up: batches of a shape that run before it is recorded, at least 1.
        max_graphs: shapes that are recorded; batches of any other shape run.

    Example:
        >>> step = GraphedStep(train_on_batch, CUDARecorder())  # doctest: +SKIP
        >>> losses = [step(batch) for batch in loader]  # doctest: +SKIP
    """

    def __init__(self, step: Callable[..., Any], recorder: Recorder, *, warm_up: int = 3, max_graphs: int = 4) -> None:
        if warm_up < 1 or max_graphs < 0:
            raise ValueError(f"warm_up must be at least 1 and max_graphs at least 0, got {warm_up} and {max_graphs}")
        self.step, self.recorder, self.warm_up, self.max_graphs = step, recorder, warm_up, max_graphs
        self.graphs: dict[Hashable, Recorded] = {}
        self._seen: Counter[Hashable] = Counter()

    def __call__(self, *arguments: Any) -> Any:
        """The step's results, in memory of their own."""
        leaves, structure = tree_flatten(arguments)
        shape = (str(structure), *(_shape(x) for x in leaves))
        if shape not in self.graphs:
            if self._seen[shape] < self.warm_up or len(self.graphs) >= self.max_graphs:
                self._seen[shape] += 1
                return self.recorder.run(lambda: self.step(*arguments))
            inputs = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
            replay = self.recorder.record(lambda: self.step(*tree_unflatten(inputs, structure)))
            self.graphs[shape] = Recorded(inputs, replay)
        inputs, replay = self.graphs[shape]
        for own, given in zip(inputs, leaves, strict=True):
            if isinstance(own, Tensor):
                own.copy_(given, non_blocking=True)
        # The next replay, of any graph, may write over the results.
        return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, replay())


def _shape(leaf: Any) -> Hashable:
    """What must be the same for a graph to fit."""
    return (leaf.shape, leaf.stride(), leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else leaf
