"""A user's program whose types are checked, strictly, against gdkit as it is installed; see test_types.py.

`assert_type` says which type a checker must find; at run time it does nothing, and the program runs.
"""

from collections.abc import Mapping
from typing import assert_type

import torch
from torch import Tensor, nn

import gdkit.functional as GF
from gdkit import (
    CrossmodalTransformer,
    DecoupledEncoder,
    DecoupledOutput,
    DistillationGraph,
    GDOutput,
    GDUnit,
    MultimodalTransformer,
    ReconstructionLoss,
    SoftOrthogonalityLoss,
    TripletMarginLoss,
    __version__,
)
from gdkit.attention import attention, attention_with_weights, packed_attention
from gdkit.stacking import run_together

version: str = __version__

graph = DistillationGraph.complete(["language", "vision"])
assert_type(graph, DistillationGraph)
assert_type(graph.names, tuple[str, ...])
assert_type(graph.edges, tuple[tuple[str, str], ...])
assert_type(graph.edge_index, Tensor)
assert_type(graph.num_nodes + graph.num_edges, int)
assert_type(graph.subgraph(graph.names), DistillationGraph)
assert_type(DistillationGraph.star("teacher", ["a", "b"]), DistillationGraph)
assert_type(DistillationGraph.from_edges("ab", [("a", "b")]), DistillationGraph)
assert_type(graph.matrix(torch.ones(2)), Tensor)
assert_type(DistillationGraph.from_data(graph.to_data(torch.ones(2))), DistillationGraph)
assert_type(DistillationGraph.from_networkx(graph.to_networkx(torch.ones(2))), DistillationGraph)


class Product(nn.Module):
    """A scorer of the user's own."""

    def forward(self, teacher: Tensor, student: Tensor) -> Tensor:
        return (teacher * student).sum(dim=-1)


def squared(teacher: Tensor, student: Tensor) -> Tensor:
    """A distance of the user's own."""
    return (teacher - student).square().sum(dim=-1)


unit = GDUnit(graph, feature_dim={"language": 8, "vision": 6}, logit_dim=3, scorer=Product(), distance=squared)
logits: Mapping[str, Tensor] = {name: torch.randn(4, 3) for name in graph.names}
features = {"language": torch.randn(4, 8), "vision": torch.randn(4, 6)}
out = unit(logits, features, node_mask=torch.ones(4, 2, dtype=torch.bool), teacher_quality=torch.zeros(2))
assert_type(out, GDOutput)
assert_type(out.loss, Tensor)
assert_type(out.terms, dict[str, Tensor])
assert_type(out.weights, Tensor)
assert_type(unit.graph, DistillationGraph)
loss, terms, *_ = out
assert_type(loss, Tensor)
assert_type(terms["logit"], Tensor)

encoder = DecoupledEncoder({"language": 30, "vision": 20}, dim=8, kernel_size={"language": 3, "vision": 5})
inputs = {"language": torch.randn(4, 7, 30), "vision": torch.randn(4, 9, 20)}
encoded = encoder(inputs)
assert_type(encoded, DecoupledOutput)
assert_type(encoded.shared, dict[str, Tensor])
assert_type(encoded.masks, dict[str, Tensor] | None)

transformer = CrossmodalTransformer(8, num_heads=2, num_layers=1)
target, source = encoded.shared["language"], encoded.shared["vision"]
assert_type(transformer(target, source), Tensor)
assert_type(transformer(target, last_step=True), Tensor)
assert_type(transformer(target, return_attention=True), tuple[Tensor, list[Tensor]])
assert_type(run_together([transformer], [target], [source]), list[Tensor])

reinforce = MultimodalTransformer(graph.names, 8, num_heads=2, num_layers=1)
assert_type(reinforce(encoded.private), dict[str, Tensor])
both = reinforce(encoded.private, return_attention=True)
assert_type(both, tuple[dict[str, Tensor], dict[tuple[str, str], list[Tensor]]])

labels = torch.tensor([0, 1, 1, 0])
assert_type(TripletMarginLoss(binning="round")(features["language"][:, None], labels.float()), Tensor)
assert_type(SoftOrthogonalityLoss("squared")(encoded.shared, encoded.private), Tensor)
assert_type(ReconstructionLoss()(encoded.coupled, encoded.reconstruction), Tensor)

stacked = torch.stack([*logits.values()], dim=1)
scores = GF.edge_scores(stacked[..., 0], stacked[..., 1], graph.edge_index)
weights = GF.edge_weights(scores, graph.edge_index, graph.num_nodes, normalize="target")
assert_type(GF.graph_distillation_loss(weights, GF.edge_distances(stacked, graph.edge_index, "kl")), Tensor)
assert_type(GF.agreement(stacked), Tensor)
assert_type(GF.triplet_margin_loss(stacked, labels), Tensor)
assert_type(GF.soft_orthogonality(target, target, "absolute"), Tensor)
assert_type(GF.reconstruction_loss(target, target), Tensor)

heads = torch.randn(2, 2, 5, 4)
assert_type(attention(heads, heads, heads, key_lengths=torch.tensor([5, 3])), Tensor)
assert_type(attention_with_weights(heads, heads, heads, band=2), tuple[Tensor, Tensor])
assert_type(packed_attention(heads, heads, heads, [2, 3], [1, 4]), Tensor)
