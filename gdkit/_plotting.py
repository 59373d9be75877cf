"""What the pictures of :mod:`gdkit.plot` share: colours, numbers out of tensors, Axes without pyplot, t-SNE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gdkit._check import check_shape, shape_text
from gdkit.graph import DistillationGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize

# They stay apart for colour-blind readers, which tests/test_palette.py measures: Okabe's and Ito's, with Tol's wine in
# place of a yellow that hardly shows on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
# Of weights, labels, and more classes than there are colours: lightness rises evenly, in shades of grey too.
SCALE = "viridis"
# Dashes keep lines apart in black and white too.
LINE_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 3)), (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (3, 6)))
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")


def to_array(values: Any) -> NDArray[Any]:
    """A tensor (of any device and dtype, with or without gradient), a list of such, or anything numpy reads."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return values.float().numpy() if values.is_floating_point() else values.numpy()
    if isinstance(values, (list, tuple)):
        return np.array([to_array(value) for value in values])  # pyright: ignore[reportUnknownVariableType]
    return np.asarray(values)


def numbers(owner: str, argument: str, values: Any, axes: Sequence[str | int]) -> NDArray[np.float64]:
    """``values`` as real numbers with the given axes, named or of fixed size as in :func:`gdkit._check.check_shape`.

    Raises:
        TypeError: if they are no numbers.
        ValueError: if their shape differs, or there are none.
    """
    try:
        array = to_array(values)
    except ValueError:
        raise ValueError(f"{owner}: {argument} must hold rows of one length") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: {argument} must be a tensor or array of real numbers, got {type(values).__name__}")
    if array.size == 0:
        raise ValueError(f"{owner}: {argument} must hold at least one number, got shape {shape_text(array.shape)}")
    note = "average over the batch first" if array.ndim == 2 and array.shape[1:] == tuple(axes) else ""
    return check_shape(owner, argument, torch.tensor(array, dtype=torch.float64), axes, note).numpy()


def is_dark(rgba: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether white text has more contrast than black on colours ``(..., 4)``; transparent ones lie on white.

    The relative luminance of the Web Content Accessibility Guidelines: the two contrasts are equal at 0.179.
    """
    opaque = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    linear = np.where(opaque <= 0.04045, opaque / 12.92, ((opaque + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.179


def check_graph(owner: str, graph: object) -> None:
    """Check that ``graph`` is a graph.

    Raises:
        TypeError: otherwise.
    """
    if not isinstance(graph, DistillationGraph):
        raise TypeError(f"{owner}: graph must be a DistillationGraph, got {type(graph).__name__}")


def axes_or_new(owner: str, ax: Axes | None, size: tuple[float, float]) -> Axes:
    """``ax``, or the Axes of a new Figure, ``size`` inches, that pyplot knows nothing of.

    Raises:
        TypeError: if ``ax`` is something else.
    """
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        return Figure(figsize=size, layout="constrained").subplots()
    if not isinstance(ax, Axes):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{owner}: ax must be a matplotlib Axes, got {type(ax).__name__}")
    return ax


def node_features(owner: str, features: Mapping[str, Tensor | ArrayLike]) -> dict[str, NDArray[np.float64]]:
    """Features of every node, ``(batch, dim)`` each, of one shape.

    Raises:
        TypeError: if ``features`` is not a mapping.
        ValueError: if it is empty, a node's features have other axes, or nodes differ in length or width.
    """
    if not isinstance(features, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{owner}: features must be a mapping from node name to array, got {type(features).__name__}")
    if not features:
        raise ValueError(f"{owner}: features must hold at least 1 node, got none")
    rows = {name: numbers(owner, f"features[{name!r}]", values, ["batch", "dim"]) for name, values in features.items()}
    first = next(iter(rows))
    for name, values in rows.items():
        if values.shape != rows[first].shape:
            raise ValueError(
                f"{owner}: features must have one shape for all nodes, got {shape_text(rows[first].shape)} for "
                f"{first!r} and {shape_text(values.shape)} for {name!r}"
            )
    return rows


class LabelScale(NamedTuple):
    """Labels as positions on a colour map; ``names`` of the classes, empty where labels are real numbers."""

    values: NDArray[np.float64]  # (batch,), NaN = no label
    colors: Colormap
    norm: Normalize
    names: list[str]


def label_scale(owner: str, labels: Tensor | ArrayLike, count: int, classes: Sequence[str] | None) -> LabelScale:
    """Colours of ``count`` labels: a continuous scale for real numbers, a colour each for classes, grey for unlabelled.

    Raises:
        TypeError: if labels are neither numbers nor names.
        ValueError: if there is not one label a sample, or a label lies outside ``classes``.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, Normalize

    array = to_array(labels)
    if array.shape != (count,):
        raise ValueError(f"{owner}: labels must have shape ({count},) as features have, got {shape_text(array.shape)}")
    if array.dtype.kind not in "biufUO":
        raise TypeError(f"{owner}: labels must be numbers or names, got {array.dtype}")
    grey = "#c8c8c8"
    if array.dtype.kind == "f":
        real = array[np.isfinite(array)] if np.isfinite(array).any() else np.zeros(1)
        return LabelScale(
            array.astype(np.float64),
            colormaps[SCALE].with_extremes(bad=grey),
            Normalize(real.min(), real.max()),
            [],
        )
    known = array != -100 if array.dtype.kind in "iu" else np.ones(count, dtype=bool)
    values = np.full(count, np.nan)
    if classes is None:
        found, values[known] = np.unique(array[known], return_inverse=True)
        names = [str(name) for name in found]
    else:
        names = list(classes)
        values[known] = array[known]
        if known.any() and not 0 <= values[known].min() <= values[known].max() < len(names):
            raise ValueError(f"{owner}: labels must lie in 0..{len(names) - 1}, one for each of classes, or be -100")
    many = colormaps[SCALE](np.linspace(0, 1, max(len(names), 1)))
    palette = ListedColormap(COLORS[: len(names)] if 0 < len(names) <= len(COLORS) else many)
    return LabelScale(values, palette.with_extremes(bad=grey), Normalize(-0.5, max(len(names), 1) - 0.5), names)


def tsne(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """t-SNE to ``(point, 2)``, also of a few points, of width 1, and of points that are all alike."""
    from sklearn.manifold import TSNE  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    # A start at the principal components divides by their spread; without any, start at random.
    start = "pca" if min(points.shape) >= 2 and np.ptp(points, axis=0).any() else "random"
    # scikit-learn wants perplexity < points; a third of them is what its neighbour search can use.
    perplexity = min(30.0, max(1.0, (len(points) - 1) / 3))
    model: Any = TSNE(perplexity=perplexity, init=start, random_state=seed)
    return np.asarray(model.fit_transform(points), dtype=np.float64)  # (point, 2)
