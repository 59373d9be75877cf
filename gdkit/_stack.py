"""Mappings from node name to tensor, checked and stacked along a node axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor

from gdkit import _check


def stack_nodes(
    owner: str, argument: str, given: Tensor | Mapping[str, Tensor], names: Sequence[str], dim: int | None = None
) -> Tensor:
    """Stack a mapping from node name to (batch, dim) into (batch, node, dim); a stacked tensor is checked and returned.

    The width wanted is ``dim``, or that of the first node where ``dim`` is None.

    Raises:
        TypeError: if a value is not a tensor.
        ValueError: if a name or a shape disagrees.
    """
    if isinstance(given, Tensor):
        return _check.check_shape(owner, argument, given, ["batch", len(names), "dim" if dim is None else dim])
    _check.check_names(owner, argument, given, names, or_stacked=True)
    first = _check.check_shape(
        owner, f"{argument}[{names[0]!r}]", given[names[0]], ["batch", "dim" if dim is None else dim]
    )
    width = first.shape[1]
    for name in names:
        _check.check_shape(
            owner, f"{argument}[{name!r}]", given[name], ["batch", width], f"dim is {width} for every node"
        )
        note = f"batch is {first.shape[0]} in {argument}[{names[0]!r}]"
        _check.check_shape(owner, f"{argument}[{name!r}]", given[name], [first.shape[0], width], note)
    return torch.stack([given[name] for name in names], dim=1)  # (batch, node, dim)


def stack_features(
    owner: str, given: Tensor | Mapping[str, Tensor], widths: Mapping[str, int], batch: int
) -> Tensor | list[Tensor]:
    """Stack features of a width a node into (batch, node, dim), or where widths differ one (batch, width) a node.

    Raises:
        TypeError: if a value is not a floating-point tensor, or one tensor is given for nodes that differ in width.
        ValueError: if a name or a shape disagrees.
    """
    same = len(set(widths.values())) == 1
    if isinstance(given, Tensor):
        if not same:
            raise TypeError(f"{owner}: features must be a mapping, as nodes differ in width, got one tensor")
        shape = [batch, len(widths), next(iter(widths.values()))]
        return _check.check_real(owner, "features", given, shape)
    _check.check_names(owner, "features", given, list(widths), or_stacked=True)
    for name, width in widths.items():
        argument, note = f"features[{name!r}]", f"dim is {width} for {'every node' if same else repr(name)}"
        _check.check_shape(owner, argument, given[name], ["batch", width], note)
        _check.check_shape(owner, argument, given[name], [batch, width], "batch as in logits")
        _check.check_floating(owner, argument, given[name])
    nodes = [given[name] for name in widths]
    return torch.stack(nodes, dim=1) if same else nodes


def stack_flags(
    owner: str, argument: str, given: Tensor | Mapping[str, Tensor], names: Sequence[str], batch: int
) -> Tensor:
    """Stack a mapping from node name to (batch,) booleans into (batch, node); a stacked mask is checked only."""
    if not isinstance(given, Tensor):
        _check.check_names(owner, argument, given, names, or_stacked=True)
        columns = [_check.check_mask(owner, f"{argument}[{name!r}]", given[name], [batch]) for name in names]
        given = torch.stack(columns, dim=1)
    return _check.check_mask(owner, argument, given, [batch, len(names)])  # (batch, node)


def stack_quality(owner: str, quality: Tensor | Mapping[str, object], names: Sequence[str], like: Tensor) -> Tensor:
    """Stack a mapping from node name to () or (batch,) into (batch, node); a stacked tensor is checked.

    Either comes back with the dtype and on the device of ``like``, (batch, ...), so that it decides neither.

    Raises:
        TypeError: if a value is not a tensor or a number, or is boolean or complex: a quality is a real number.
        ValueError: if a name or a shape disagrees.
    """
    batch, argument = like.shape[0], "teacher_quality"
    if isinstance(quality, Tensor):
        axes = [len(names)] if quality.dim() == 1 else [batch, len(names)]
        _check.check_shape(owner, argument, quality, axes, "(node,) or (batch, node)")
        return _real(owner, argument, quality, like)
    _check.check_names(owner, argument, quality, names, or_stacked=True)
    columns = [_real(owner, f"{argument}[{name!r}]", quality[name], like) for name in names]
    for name, column in zip(names, columns, strict=True):
        _check.check_shape(owner, f"{argument}[{name!r}]", column, [batch] if column.dim() else [], "() or (batch,)")
    return torch.stack([column.expand(batch) for column in columns], dim=1)  # (batch, node)


def _real(owner: str, argument: str, value: object, like: Tensor) -> Tensor:
    """A tensor or a number with the dtype and on the device of ``like``; booleans and complex numbers are refused."""
    wanted = f"{owner}: {argument} must be a tensor of real numbers or a number"
    if isinstance(value, Tensor):
        if value.dtype == torch.bool or value.is_complex():
            raise TypeError(f"{wanted}, got {value.dtype}")
        return value.to(device=like.device, dtype=like.dtype)
    if isinstance(value, bool) or not isinstance(value, Real):  # NumPy's numbers are real ones too
        raise TypeError(f"{wanted}, got {value!r}")
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)
