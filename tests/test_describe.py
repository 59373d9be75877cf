"""What a print shows, as a whole: graphs, modules and outputs of a few nodes, and how short those of many are."""

import textwrap

import pytest
import torch

from gdkit import (
    CrossmodalTransformer,
    DecoupledEncoder,
    DistillationGraph,
    GDUnit,
    MultimodalTransformer,
    ReconstructionLoss,
    SoftOrthogonalityLoss,
    TripletMarginLoss,
)

GRAPH = DistillationGraph.complete(["language", "vision", "acoustic"])
STAR = DistillationGraph.star("language", ["vision", "acoustic"])
RING = [f"sensor {i}" for i in range(20_000)]
LARGE = DistillationGraph.from_edges(RING, zip(RING, RING[1:] + RING[:1]))


def distilled():
    with torch.no_grad():
        return GDUnit(GRAPH, 4, 2, scorer=None)(torch.ones(5, 3, 2))


def decoupled():
    encoder = DecoupledEncoder({"language": 30, "vision": 20}, dim=16)
    inputs = {"language": torch.zeros(2, 9, 30), "vision": torch.zeros(2, 7, 20, dtype=torch.float64)}
    return encoder.double()({"language": inputs["language"].double(), "vision": inputs["vision"]}, reconstruct=False)


PRINTS = {
    "graph": (
        lambda: DistillationGraph.star("a", ["b", "c"]),
        "DistillationGraph(names=('a', 'b', 'c'), edges=(('a', 'b'), ('a', 'c')))",
    ),
    "large graph": (
        lambda: LARGE,
        "DistillationGraph(20000 nodes (sensor 0, sensor 1, sensor 2, ..., sensor 19999), 20000 edges)",
    ),
    "graph of many edges": (
        lambda: DistillationGraph.complete("abcde"),
        "DistillationGraph(5 nodes (a, b, c, d, e), 20 edges)",
    ),
    "GDUnit": (
        lambda: GDUnit(GRAPH, 4, 2),
        """
        GDUnit(
          3 nodes, 6 edges:
          language -> vision, acoustic
          vision -> language, acoustic
          acoustic -> language, vision
          logit_dim=2, normalize='graph', temperature=1.0, distance='l1'
          feature_distance=None, prior_weight=0.0, detach_teacher=True, detach_weights=False
          (scorer): EdgeScorer(
            kind='linear'
            (logit_projection): Linear(in_features=2, out_features=64, bias=True)
            (feature_projection): Linear(in_features=4, out_features=64, bias=True)
            (edge_score): Linear(in_features=256, out_features=1, bias=True)
          )
        )
        """,
    ),
    "GDUnit over a star": (
        lambda: GDUnit(STAR, 4, 2, scorer="free", distance="kl", normalize="target"),
        """
        GDUnit(
          3 nodes, 2 edges (vision, acoustic teach none):
          language -> vision, acoustic
          logit_dim=2, normalize='target', temperature=1.0, distance='kl', distance_temperature=1.0
          feature_distance=None, prior_weight=0.0, detach_teacher=True, detach_weights=False
          (scorer): EdgeScorer(kind='free')
        )
        """,
    ),
    "GDUnit over a large graph": (
        lambda: GDUnit(LARGE, 4, 2, scorer=None),
        """
        GDUnit(
          20000 nodes (sensor 0, sensor 1, sensor 2, ..., sensor 19999), 20000 edges
          logit_dim=2, normalize='graph', temperature=1.0, distance='l1'
          feature_distance=None, prior_weight=0.0, detach_teacher=True, detach_weights=False
          (scorer): EdgeScorer(kind=None)
        )
        """,
    ),
    "GDOutput": (
        distilled,
        """
        GDOutput(
          loss=tensor(0.),
          terms={'logit': tensor(0.), 'feature': tensor(0.), 'prior': tensor(0.)},
          per_sample=float32[5],
          weights=float32[5, 6],
          distances=float32[5, 6],
        )
        """,
    ),
    "DecoupledEncoder": (
        lambda: DecoupledEncoder({"language": 30, "vision": 20}, dim=16),
        """
        DecoupledEncoder(
          input_dims={'language': 30, 'vision': 20}, dim=16, kernel_size=5, padding='same'
          (projection): ModuleDict(
            (language): Conv1d(30, 16, kernel_size=(5,), stride=(1,), padding=same, bias=False)
            (vision): Conv1d(20, 16, kernel_size=(5,), stride=(1,), padding=same, bias=False)
          )
          (shared): Linear(in_features=16, out_features=16, bias=False)
          (private): ModuleDict(
            (language): Linear(in_features=16, out_features=16, bias=False)
            (vision): Linear(in_features=16, out_features=16, bias=False)
          )
          (decoder): ModuleDict(
            (language): Linear(in_features=32, out_features=16, bias=False)
            (vision): Linear(in_features=32, out_features=16, bias=False)
          )
        )
        """,
    ),
    "DecoupledOutput": (
        decoupled,
        """
        DecoupledOutput(
          coupled={'language': float64[2, 9, 16], 'vision': float64[2, 7, 16]},
          shared={'language': float64[2, 9, 16], 'vision': float64[2, 7, 16]},
          private={'language': float64[2, 9, 16], 'vision': float64[2, 7, 16]},
          reconstruction={},
          reencoded={},
          masks=None,
        )
        """,
    ),
    "CrossmodalTransformer": (
        lambda: CrossmodalTransformer(8, num_heads=2, num_layers=2, attention_dropout=0.1, band=3),
        """
        CrossmodalTransformer(
          dim=8, num_heads=2, num_layers=2, band=3
          (dropout): Dropout(p=0.0, inplace=False)
          (layers): ModuleList(
            (0-1): 2 x CrossmodalLayer(
              num_heads=2, attention_dropout=0.1
              (attention_norm): LayerNorm((8,), eps=1e-05, elementwise_affine=True, bias=True)
              (in_projection): Linear(in_features=8, out_features=24, bias=True)
              (out_projection): Linear(in_features=8, out_features=8, bias=True)
              (feedforward_norm): LayerNorm((8,), eps=1e-05, elementwise_affine=True, bias=True)
              (expand): Linear(in_features=8, out_features=32, bias=True)
              (contract): Linear(in_features=32, out_features=8, bias=True)
              (dropout): Dropout(p=0.0, inplace=False)
            )
          )
          (norm): LayerNorm((8,), eps=1e-05, elementwise_affine=True, bias=True)
        )
        """,
    ),
    "TripletMarginLoss": (
        lambda: TripletMarginLoss(0.2, binning=[-1, 1.5]),
        "TripletMarginLoss(margin=0.2, binning=(-1.0, 1.5), proportional=False)",
    ),
    "SoftOrthogonalityLoss": (SoftOrthogonalityLoss, "SoftOrthogonalityLoss(kind='hinge')"),
    "ReconstructionLoss": (ReconstructionLoss, "ReconstructionLoss()"),
}


@pytest.mark.parametrize("name", PRINTS)
def test_prints(name):
    make, wanted = PRINTS[name]
    assert repr(make()) == textwrap.dedent(wanted).strip()


def test_a_multimodal_transformer_prints_its_nodes_and_each_direction():
    lines = repr(MultimodalTransformer(["a", "b", "c"], 8, num_heads=2, num_layers=1)).splitlines()
    assert lines[1] == "  names=('a', 'b', 'c'), dim=8"
    assert sum("CrossmodalTransformer(" in line for line in lines) == 6


def test_a_small_graph_prints_what_makes_it_again():
    assert eval(repr(GRAPH)) == GRAPH


def test_outputs_are_still_tuples_and_tell_dtype_device_and_shape():
    out = distilled()
    loss, *_, distances = out
    assert (loss is out.loss, distances is out[-1], out._fields[0]) == (True, True, "loss")
    moved = out._replace(weights=out.weights.to("meta"), distances=out.distances.bfloat16())
    assert repr(moved).splitlines()[-3:-1] == ["  weights=float32[5, 6] meta,", "  distances=bfloat16[5, 6],"]


def test_outputs_of_many_nodes_print_the_first():
    names = [f"node {i}" for i in range(30)]
    out = DecoupledEncoder(dict.fromkeys(names, 2), dim=2)({name: torch.zeros(1, 3, 2) for name in names})
    first = repr(out).splitlines()[1]
    assert first.startswith("  coupled={'node 0': float32[1, 3, 2], 'node 1': ")
    assert first.endswith("'node 7': float32[1, 3, 2], ... 30 in all},")
