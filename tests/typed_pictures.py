"""As typed_user.py, for the parts that need an extra: pictures, and checks on the user's own parts."""

from typing import assert_type

import torch
from matplotlib.axes import Axes
from typed_user import Product, graph, squared, unit

from gdkit.plot import COLORS, edge_curves, edge_heatmap, embedding_map
from gdkit.testing import check_distance, check_gd_unit, check_scorer

history = [torch.tensor([0.5, 0.5]), torch.tensor([0.7, 0.3])]
assert_type(edge_heatmap(graph, [0.4, 0.6]), Axes)
assert_type(edge_curves(graph, history, epochs=[1, 2]), Axes)
assert_type(embedding_map({"language": torch.randn(8, 3)}, ["sad", "glad"] * 4), Axes)
colors: tuple[str, ...] = COLORS
check_distance(squared)
check_scorer(Product(), hidden_dim=3)
check_gd_unit(unit)
