"""Named-axis checks used at every public door: they read shapes, never values: no device sync."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import cast

import torch
from torch import Tensor


def shape_text(shape: Sequence[int]) -> str:
    """A shape as users write it: ``(4, 48)``, with plain integers."""
    return "(" + ", ".join(str(int(size)) for size in shape) + ("," if len(shape) == 1 else "") + ")"


def check_tensor(owner: str, argument: str, tensor: object) -> Tensor:
    """Return ``tensor`` if it is one, of any shape.

    Raises:
        TypeError: otherwise, naming the type that came.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{owner}: {argument} must be a torch.Tensor, got {type(tensor).__name__}")
    return tensor


def check_shape(owner: str, argument: str, tensor: object, axes: Sequence[str | int], note: str = "") -> Tensor:
    """Return ``tensor`` if its axes fit ``axes``: a string names a free axis, an integer fixes its size.

    Raises:
        TypeError: if ``tensor`` is not a tensor.
        ValueError: if the rank or a fixed size differs; the message names the argument, the axes wanted and the shape.
    """
    tensor = check_tensor(owner, argument, tensor)
    fits = tensor.dim() == len(axes) and all(
        isinstance(axis, str) or size == axis for size, axis in zip(tensor.shape, axes, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join(str(axis) for axis in axes) + ("," if len(axes) == 1 else "") + ")"
        reason = f"; {note}" if note else ""
        raise ValueError(f"{owner}: {argument} must have shape {wanted}, got {shape_text(tensor.shape)}{reason}")
    return tensor


def check_floating(owner: str, argument: str, tensor: Tensor) -> Tensor:
    """Return ``tensor`` if it is real floating point.

    Raises:
        TypeError: otherwise, naming the dtype that came.
    """
    if not tensor.is_floating_point():
        raise TypeError(f"{owner}: {argument} must be floating point, got {tensor.dtype}")
    return tensor


def check_real(owner: str, argument: str, tensor: object, axes: Sequence[str | int]) -> Tensor:
    """Return ``tensor`` if it has the axes and is real floating point.

    Raises:
        TypeError, ValueError: as :func:`check_shape` and :func:`check_floating`.
    """
    return check_floating(owner, argument, check_shape(owner, argument, tensor, axes))


def check_mask(owner: str, argument: str, mask: object, axes: Sequence[str | int]) -> Tensor:
    """Return ``mask`` if it has the axes and is boolean: floats or integers could mean 0/1, additive, or lengths.

    Raises:
        TypeError: naming the dtype that came, if it is not boolean.
        ValueError: if its shape differs.
    """
    mask = check_shape(owner, argument, mask, axes)
    if mask.dtype != torch.bool:
        raise TypeError(f"{owner}: {argument} must be boolean (True = real or present), got {mask.dtype}")
    return mask


def check_whole(owner: str, argument: str, tensor: object, axes: Sequence[str | int]) -> Tensor:
    """Return ``tensor`` if it has the axes and holds whole numbers, such as lengths; booleans would be a mask.

    Raises:
        TypeError: if it is not a tensor of integers.
        ValueError: if the axes disagree.
    """
    dtype = check_shape(owner, argument, tensor, axes).dtype
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        raise TypeError(f"{owner}: {argument} must hold integers, got {dtype}")
    return cast(Tensor, tensor)


def check_edge_index(owner: str, edge_index: object, num_edges: str | int = "edge") -> Tensor:
    """Return ``edge_index`` if it is a (2, edge) tensor of positions; booleans would select, not point.

    Raises:
        TypeError: naming the dtype that came, if it is not integer.
        ValueError: if its shape differs.
    """
    edge_index = check_shape(owner, "edge_index", edge_index, [2, num_edges])
    if edge_index.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{owner}: edge_index must be int64 or int32, got {edge_index.dtype}")
    return edge_index


def check_edge_mask(owner: str, mask: object, shape: Sequence[int]) -> Tensor:
    """Return ``mask`` if it is boolean, one flag an edge: for the whole batch, or for every sample of it."""
    axes = shape[-1:] if check_tensor(owner, "edge_mask", mask).dim() == 1 else shape
    return check_mask(owner, "edge_mask", mask, axes)


def check_not_empty(owner: str, argument: str, tensor: Tensor) -> Tensor:
    """Return ``tensor`` if its batch axis holds at least one sample.

    Raises:
        ValueError: if the batch is empty.
    """
    if tensor.shape[0] == 0:
        raise ValueError(f"{owner}: {argument} must hold at least 1 sample, got shape {shape_text(tensor.shape)}")
    return tensor


def check_names(
    owner: str, argument: str, given: Mapping[str, object], names: Sequence[str], *, or_stacked: bool = False
) -> None:
    """Check that a mapping has exactly the given node names as keys.

    Raises:
        TypeError: if ``given`` is not a mapping (nor, where that would do, a tensor of all nodes).
        ValueError: naming what is lacking or not a node.
    """
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        wanted = "a mapping from node name to tensor" + (", or a tensor of all nodes" if or_stacked else "")
        raise TypeError(f"{owner}: {argument} must be {wanted}, got {type(given).__name__}")
    nodes = ", ".join(names)
    lacking = [name for name in names if name not in given]
    if lacking:
        raise ValueError(f"{owner} has nodes ({nodes}); {argument} lacks {', '.join(map(repr, lacking))}")
    if len(given) > len(names):
        foreign = [name for name in given if name not in names]
        raise ValueError(f"{owner} has nodes ({nodes}); {argument} has {', '.join(map(repr, foreign))} as well")


def check_choice(owner: str, argument: str, value: object, choices: Sequence[str], others: str = "") -> None:
    """Check that an option is one of its choices; ``others`` says what else could have stood there.

    Raises:
        ValueError: listing the choices.
    """
    if value not in choices:
        raise ValueError(f"{owner}: {argument} must be one of {', '.join(map(repr, choices))}{others}, got {value!r}")


def check_positive(owner: str, argument: str, value: object, *, integer: bool = False, zero: bool = False) -> None:
    """Check that a number is above zero (or not below it, with ``zero``), and whole where ``integer`` is asked for.

    Raises:
        TypeError: if it is not a number, or not an integer where one is wanted.
        ValueError: if it is out of range.
    """
    kinds = Integral if integer else Real  # NumPy's numbers too
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{owner}: {argument} must be {'an integer' if integer else 'a number'}, got {value!r}")
    number = float(value)
    if not (number >= 0 if zero else number > 0):
        raise ValueError(f"{owner}: {argument} must be {'at least 0' if zero else 'above 0'}, got {value!r}")


def check_integer(owner: str, argument: str, value: object) -> None:
    """Check that a number is whole, of either sign.

    Raises:
        TypeError: otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{owner}: {argument} must be an integer, got {value!r}")


def check_fraction(owner: str, argument: str, value: float) -> None:
    """Check that a probability lies in [0, 1).

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is out of range.
    """
    check_positive(owner, argument, value, zero=True)
    if value >= 1:
        raise ValueError(f"{owner}: {argument} must be in [0, 1), got {value!r}")


def check_module_names(owner: str, names: Sequence[str]) -> None:
    """Check that node names can name submodules, so that a state dict shows them.

    Raises:
        TypeError: if a name is not a string.
        ValueError: on an empty name, a dot, or a name that ``torch.nn.ModuleDict`` uses itself.
    """
    taken = torch.nn.ModuleDict()  # an instance, which has attributes that the class lacks, such as ``training``
    for name in names:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{owner}: node names must be strings, got {name!r}")
        if not name or "." in name or hasattr(taken, name):
            raise ValueError(
                f"{owner}: node name {name!r} cannot name a submodule: it is empty, has a dot, or is taken"
            )
