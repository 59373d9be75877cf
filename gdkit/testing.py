"""Strategies and checks to test a distance, a scorer, a unit or a module of one's own as gdkit tests its own.

The strategies are Hypothesis'; the checks are plain functions that raise an AssertionError, which names the property
that failed and shows the input. A check draws its inputs from a fixed seed and runs modules in evaluation mode. This
module needs the extra ``test`` (``pip install 'gdkit[test]'``), and ``import gdkit`` never imports it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gdkit._strategies import absent_nodes, graphs, masks, node_batches
from gdkit._testing import (
    Nodes,
    Require,
    check_gd_gradients,
    check_gd_output,
    close,
    evaluating,
    flat,
    gradients,
    on_each,
    require_gradients,
    require_same,
    seeded_noise,
)
from gdkit.gd_unit import GDUnit

__all__ = [
    "absent_nodes",
    "check_distance",
    "check_gd_unit",
    "check_padding_invariance",
    "check_permutation_equivariance",
    "check_scorer",
    "graphs",
    "masks",
    "node_batches",
]


def check_distance(distance: Callable[[Tensor, Tensor], Tensor], *, dim: int = 4, seed: int = 0) -> None:
    """Check a distance, as ``GDUnit(distance=...)`` and ``edge_distances`` call it.

    It gives (batch, edge): finite for all finite vectors, at least 0, 0 between equals, every edge of every sample by
    itself; and it passes a finite gradient to the student, also where the student equals its teacher.

    Args:
        distance: ``(teacher, student) -> (batch, edge)``, each ``(batch, edge, dim)``.
        dim: width of the vectors.
        seed: of the inputs.

    Raises:
        AssertionError: naming the property that fails.

    Example:
        >>> check_distance(lambda teacher, student: (teacher - student).abs().amax(dim=-1))
    """
    noise = seeded_noise(seed)
    for scale in (1.0, 100.0):
        teacher, student = scale * noise(3, 2, dim), scale * noise(3, 2, dim)
        student[0, 0], teacher[1, 0] = teacher[0, 0], 0.0  # equals, and a vector without direction
        require = Require("check_distance", teacher=teacher, student=student)
        leaf = student.clone().requires_grad_()
        far = distance(teacher, leaf)
        require(far.shape == (3, 2), "the shape must be (batch, edge) = (3, 2)", tuple(far.shape))
        require(far.isfinite().all(), "distances must be finite", far)
        require((far >= -1e-5).all(), "distances must be at least 0", far)
        same = distance(teacher, teacher)
        require(close(same, 0 * same), "equal teacher and student must be at distance 0", same)
        order = torch.tensor([2, 0, 1])
        permuted = distance(teacher[order], student[order])
        require(close(permuted, far[order]), "permuting the batch must permute the distances", permuted)
        alone = distance(teacher[2:, 1:], student[2:, 1:])
        require(close(alone, far[2:, 1:]), "an edge must not depend on other samples or edges", alone)
        (gradient,) = gradients(far, [leaf])
        require(gradient is not None, "the student must get a gradient", gradient)
        require(gradient is None or gradient.isfinite().all(), "the student's gradient must be finite", gradient)


def check_scorer(scorer: nn.Module, hidden_dim: int, *, num_edges: int = 6, seed: int = 0) -> None:
    """Check a scorer, as ``GDUnit(scorer=...)`` calls it.

    It gives one finite score an edge, (batch, edge), every sample by itself, and a gradient reaches every parameter.

    Args:
        scorer: ``(teacher, student) -> (batch, edge)``, each ``(batch, edge, 2 * hidden_dim)``.
        hidden_dim: that of the unit.
        num_edges: that of the graph.
        seed: of the inputs.

    Raises:
        AssertionError: naming the property that fails.

    Example:
        >>> class Product(torch.nn.Module):
        ...     def __init__(self, width):
        ...         super().__init__()
        ...         self.inner = torch.nn.Linear(width, width)
        ...
        ...     def forward(self, teacher, student):
        ...         return (self.inner(teacher) * student).sum(dim=-1)
        >>> check_scorer(Product(width=16), hidden_dim=8)
    """
    noise = seeded_noise(seed, scorer)
    teacher, student = noise(3, num_edges, 2 * hidden_dim), noise(3, num_edges, 2 * hidden_dim)
    require = Require("check_scorer", teacher=teacher, student=student)
    with evaluating(scorer):
        scores = scorer(teacher, student)
        require(scores.shape == (3, num_edges), f"the shape must be (batch, edge) = (3, {num_edges})", scores.shape)
        require(scores.isfinite().all(), "scores must be finite", scores)
        alone = torch.cat([scorer(teacher[b : b + 1], student[b : b + 1]) for b in range(3)])
        require(close(alone, scores), "a sample must not depend on other samples", f"{alone}, not {scores}")
        require_gradients(require, scorer, scores * noise(3, num_edges))


def check_gd_unit(unit: GDUnit, *, batch: int = 4, seed: int = 0) -> None:
    """Check a :class:`gdkit.GDUnit` of any options, with one's own scorer and distance inside, or a subclass of it.

    Weights sum to 1 over the graph, or over each target's teachers; absent nodes get nothing and change nothing; the
    loss is the sum of its terms; permuting the batch permutes the samples' results; with ``detach_teacher`` a distance
    moves students alone; a gradient reaches every parameter; and a state dict brings the same results back.

    Args:
        unit: the unit; it is left as it is.
        batch: number of samples, at least 3.
        seed: of the inputs.

    Raises:
        AssertionError: naming the property that fails.

    Example:
        >>> from gdkit import DistillationGraph
        >>> graph = DistillationGraph.complete(["language", "vision", "acoustic"])
        >>> check_gd_unit(GDUnit(graph, feature_dim=8, logit_dim=2, normalize="target"))
    """
    noise, names = seeded_noise(seed, unit), unit.graph.names
    logits = noise(batch, len(names), unit.logit_dim).requires_grad_()
    features = {name: noise(batch, width) for name, width in unit.widths.items()}
    node_mask = noise(batch, len(names)) > -0.5
    node_mask[0], node_mask[1, 0], node_mask[2] = True, False, False
    require = Require("check_gd_unit", logits=logits, features=features, node_mask=node_mask)
    with evaluating(unit):
        check_gd_output(require, unit, unit(logits, features), torch.ones_like(node_mask))
        out = unit(logits, features, node_mask)
        check_gd_output(require, unit, out, node_mask)
        (gradient,) = gradients(out.loss, [logits])
        require(gradient is None or not gradient[~node_mask].any(), "absent nodes must get no gradient", gradient)
        other_logits = torch.where(node_mask[..., None], logits, 10 * noise(*logits.shape))
        other_features = {
            name: torch.where(node_mask[:, i, None], features[name], 10 * noise(*features[name].shape))
            for i, name in enumerate(names)
        }
        other = unit(other_logits, other_features, node_mask)
        require_same(require, "absent nodes must change nothing", flat(other), flat(out))
        check_permutation_equivariance(unit, logits, features, node_mask)
        check_gd_gradients(require, unit, unit(logits, features), logits)
        restored = copy.deepcopy(unit)
        with torch.no_grad():
            for tensor in (*restored.parameters(), *restored.buffers()):
                tensor.add_(noise(*tensor.shape) if tensor.is_floating_point() else 0)
        restored.load_state_dict(unit.state_dict())
        again = restored(logits, features, node_mask)
        require_same(require, "a state dict must bring the results back", flat(again), flat(out))


def check_padding_invariance(
    module: Callable[..., Any], inputs: Nodes, masks: Nodes | None = None, *, steps: int = 2, seed: int = 0
) -> None:
    """Check that appended padding, and whatever stands in masked steps, changes no result at real steps.

    The module is called as ``module(inputs, masks)``. Its outputs, nested in any way, may be (batch, time, ...), also
    shorter than the input by a kernel's width, or have no time axis at all.

    Args:
        module: a module, or a function around one where the call differs.
        inputs: (batch, time, dim), or a mapping from name to it.
        masks: (batch, time), True = real, or a mapping from name to it; None: every step given is real.
        steps: number of steps to append.
        seed: of what is written into masked steps.

    Raises:
        AssertionError: naming the output that changes.

    Example:
        >>> from gdkit import DecoupledEncoder
        >>> encoder = DecoupledEncoder({"language": 3, "vision": 2}, dim=4, kernel_size=3)
        >>> check_padding_invariance(encoder, {"language": torch.randn(2, 5, 3), "vision": torch.randn(2, 7, 2)})
    """

    def all_real(x: Tensor) -> Tensor:
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)

    def longer(mask: Tensor) -> Tensor:
        return nn.functional.pad(mask, (0, steps))

    def pad(x: Tensor, mask: Tensor) -> Tensor:
        foreign = 10 * noise(x.shape[0], x.shape[1] + steps, x.shape[2]).to(x)
        return torch.where(longer(mask)[..., None], nn.functional.pad(x, (0, 0, 0, steps)), foreign)

    noise = seeded_noise(seed)
    masks = on_each(all_real, inputs) if masks is None else masks
    require = Require("check_padding_invariance", inputs=inputs, masks=masks)
    by_name = {".".join(path): mask for path, mask in flat(masks).items()}  # "" where there is one mask for all
    with evaluating(module):
        plain, padded = flat(module(inputs, masks)), flat(module(on_each(pad, inputs, masks), on_each(longer, masks)))
    require(plain.keys() == padded.keys(), "padding must not change what is returned", list(padded))
    for path, result in plain.items():
        other, rule = padded[path], f"padding must not change result {'.'.join(path) or 'of the module'}"
        mask = by_name.get("") if "" in by_name else next((by_name[name] for name in path if name in by_name), None)
        if mask is not None and other.dim() > 1 and other.shape[1] == result.shape[1] + steps:
            # A step of a shorter result is real if all the steps under it are.
            window = mask.shape[1] - result.shape[1] + 1
            real = mask.unfold(1, window, 1).all(dim=-1)  # (batch, time)
            result, other = result[real], other[:, : result.shape[1]][real]
        require(close(other, result), rule, f"{other}, not {result}")


def check_permutation_equivariance(module: Callable[..., Any], *inputs: Any) -> None:
    """Check that permuting the batch permutes every result, and leaves scalars as they are.

    Args:
        module: a module or function; called as ``module(*inputs)``.
        inputs: tensors with the batch first, at least 2 samples; mappings from name to such tensors; or None.

    Raises:
        AssertionError: naming the result that does not follow.

    Example:
        >>> check_permutation_equivariance(torch.nn.Linear(3, 2), torch.randn(4, 3))
    """

    def permute(x: Tensor) -> Tensor:
        return x.roll(1, dims=0) if x.dim() else x

    require = Require("check_permutation_equivariance", inputs=inputs)
    with evaluating(module):
        permuted = module(*(on_each(permute, given) for given in inputs))
        wanted = {path: permute(result) for path, result in flat(module(*inputs)).items()}
    require_same(require, "permuting the batch must permute the results", flat(permuted), wanted)
