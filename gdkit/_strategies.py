"""Hypothesis strategies for graphs, node batches and masks; public as :mod:`gdkit.testing`."""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from gdkit.graph import DistillationGraph

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as st_numpy
except ImportError as error:
    raise ImportError("gdkit.testing needs the extra 'test': pip install 'gdkit[test]'") from error

DTYPES = (torch.float32, torch.float64)


@st.composite
def graphs(draw: st.DrawFn, *, min_nodes: int = 2, max_nodes: int = 5) -> DistillationGraph:
    """Any graph: some edges among a few nodes, given in any order; shrinks to one edge between two nodes.

    Example:
        >>> from hypothesis import given
        >>> @given(graphs(max_nodes=3))
        ... def test_at_most_six_edges(graph):
        ...     assert graph.num_edges <= 6
        >>> test_at_most_six_edges()
    """
    names = [f"node_{i}" for i in range(draw(st.integers(min_nodes, max_nodes)))]
    pairs = list(permutations(names, 2))
    edges = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=len(pairs), unique=True))
    return DistillationGraph.from_edges(names, edges)


@st.composite
def node_batches(
    draw: st.DrawFn,
    *,
    batch: int | None = None,
    num_nodes: int | None = None,
    dim: int | None = None,
    dtype: torch.dtype | None = None,
    zero_vectors: bool = False,
) -> Tensor:
    """Features or logits of nodes, ``(batch, node, dim)``: normal numbers of a drawn seed and scale.

    Args:
        draw: given by Hypothesis.
        batch: number of samples; None draws 1 to 4.
        num_nodes: number of nodes; None draws 2 to 4.
        dim: width; None draws 2 to 5.
        dtype: None draws float32 or float64.
        zero_vectors: now and then a node of a sample is exactly zero, where a cosine has no direction.

    Example:
        >>> from hypothesis import given
        >>> @given(node_batches(num_nodes=3, dtype=torch.float64))
        ... def test_three_nodes(x):
        ...     assert x.shape[1] == 3 and x.isfinite().all()
        >>> test_three_nodes()
    """
    shape = [
        size if size is not None else draw(st.integers(*limits))
        for size, limits in ((batch, (1, 4)), (num_nodes, (2, 4)), (dim, (2, 5)))
    ]
    dtype = dtype or draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31 - 1)))
    x = torch.randn(shape, generator=generator, dtype=dtype) * draw(st.sampled_from((1.0, 0.1, 10.0)))
    if zero_vectors:
        x = x * draw(masks(*shape[:2]))[..., None]
    return x


def masks(*shape: int) -> st.SearchStrategy[Tensor]:
    """Boolean masks, ``masks(batch, time)`` for example: any step may be masked, also all of them; shrinks to True.

    Example:
        >>> from hypothesis import given
        >>> @given(masks(2, 5))
        ... def test_shape(mask):
        ...     assert mask.shape == (2, 5) and mask.dtype == torch.bool
        >>> test_shape()
    """
    return st_numpy.arrays(bool, shape).map(lambda hidden: torch.as_tensor(~hidden))


def absent_nodes(batch: int, num_nodes: int) -> st.SearchStrategy[Tensor | None]:
    """A ``node_mask`` for a :class:`gdkit.GDUnit`, ``(batch, node)``, True = present; None = every node is present.

    Example:
        >>> from hypothesis import given
        >>> @given(absent_nodes(2, 3))
        ... def test_shape(node_mask):
        ...     assert node_mask is None or node_mask.shape == (2, 3)
        >>> test_shape()
    """
    return st.none() | masks(batch, num_nodes)
