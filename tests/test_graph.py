"""DistillationGraph: constructors, errors, layout, networkx, and torch_geometric as a second opinion on Eq. 7-9."""

import copy
import dataclasses
import pickle

import networkx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import from_networkx

import gdkit.functional as GF
from gdkit import DistillationGraph
from gdkit.testing import graphs, node_batches

PAIRS = [("vision", "language"), ("language", "acoustic"), ("language", "vision")]
GRAPH = DistillationGraph.from_edges(["language", "vision", "acoustic"], PAIRS)


def test_complete():
    graph = DistillationGraph.complete(["language", "vision", "acoustic"])
    assert graph.names == ("language", "vision", "acoustic")
    assert (graph.num_nodes, graph.num_edges) == (3, 6)
    assert graph.edge_index.tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    assert graph.edge_index.dtype == torch.int64
    assert graph.edges[2] == ("vision", "language")


def test_star_teaches_everyone_from_its_center():
    assert DistillationGraph.star("b", ["a", "b", "c"]).edges == (("b", "a"), ("b", "c"))
    assert DistillationGraph.star("b", ["a", "b", "c"]).names == ("a", "b", "c")
    assert DistillationGraph.star("b", ["a", "c"]).names == ("b", "a", "c")


def test_from_edges_sorts_by_source_and_target():
    assert GRAPH.edges == (("language", "vision"), ("language", "acoustic"), ("vision", "language"))
    assert GRAPH.edge_index.tolist() == [[0, 0, 1], [1, 2, 0]]
    assert DistillationGraph.from_edges(iter(GRAPH.names), iter(PAIRS[::-1])) == GRAPH


def test_a_graph_is_a_plain_value():
    same = DistillationGraph.from_edges(list(GRAPH.names), PAIRS[::-1])
    assert same == GRAPH
    assert hash(same) == hash(GRAPH)
    assert DistillationGraph.complete(GRAPH.names) != GRAPH
    assert DistillationGraph.from_edges(["vision", "language", "acoustic"], PAIRS) != GRAPH
    assert pickle.loads(pickle.dumps(GRAPH)) == copy.deepcopy(GRAPH) == GRAPH
    assert eval(repr(GRAPH)) == GRAPH
    with pytest.raises(dataclasses.FrozenInstanceError):
        GRAPH.names = ("a", "b")
    GRAPH.edge_index.zero_()
    assert GRAPH.edge_index.tolist() == [[0, 0, 1], [1, 2, 0]]


@pytest.mark.parametrize(
    ("names", "edges", "message"),
    [
        (["a"], [], "DistillationGraph: names must hold at least 2 nodes, got 1"),
        (["a", "b", "a"], [("a", "b")], "DistillationGraph: names must all differ, got 'a', 'b', 'a'"),
        (["a", "b"], [], "DistillationGraph: edges must hold at least 1 edge, got none"),
        (["a", "b"], [("a", "a")], "DistillationGraph: a node cannot teach itself, got edge ('a', 'a')"),
        (["a", "b"], [("a", "c")], "DistillationGraph has nodes (a, b); edges name 'c' as well"),
        (
            ["a", "b"],
            [("a", "b"), ("b", "a"), ("a", "b")],
            "DistillationGraph: edges must all differ, got ('a', 'b') more than once",
        ),
        (["a", 1], [("a", 1)], "DistillationGraph: names must be strings, got 1"),
    ],
)
def test_errors_of_the_constructor(names, edges, message):
    with pytest.raises((ValueError, TypeError)) as error:
        DistillationGraph.from_edges(names, edges)
    assert str(error.value) == message


def test_an_edge_that_is_no_pair_is_named():
    for edges in ([("a", "b", "c")], [("a",)], ["ab", "bac"], [3]):
        with pytest.raises((ValueError, TypeError), match=r"^DistillationGraph"):
            DistillationGraph.from_edges("abc", edges)


def test_constructors_refuse_too_few_nodes():
    for build in (lambda: DistillationGraph.complete(["a"]), lambda: DistillationGraph.star("a", [])):
        with pytest.raises(ValueError, match=r"^DistillationGraph: names must hold at least 2 nodes, got 1$"):
            build()


@given(st.data())
def test_matrix_lays_out_source_by_target(data):
    graph = data.draw(graphs())
    weights = data.draw(node_batches(num_nodes=graph.num_edges))  # (batch, edge, dim)
    matrix = graph.matrix(weights.transpose(1, 2))  # (batch, dim, node, node)
    for i, source in enumerate(graph.names):
        for j, target in enumerate(graph.names):
            edge = (source, target)
            wanted = weights[:, graph.edges.index(edge)] if edge in graph.edges else torch.zeros_like(weights[:, 0])
            assert torch.equal(matrix[..., i, j], wanted)
    assert matrix.dtype == weights.dtype
    assert graph.matrix(weights[0, :, 0]).shape == (graph.num_nodes, graph.num_nodes)


def test_matrix_passes_the_gradient_and_names_a_wrong_shape():
    weights = torch.randn(2, 3, requires_grad=True)
    GRAPH.matrix(weights).sum().backward()
    assert torch.equal(weights.grad, torch.ones(2, 3))
    with pytest.raises(
        ValueError, match=r"^DistillationGraph.matrix: weights must have shape \(\.\.\., 3\), got \(2, 4\)$"
    ):
        GRAPH.matrix(torch.randn(2, 4))
    with pytest.raises(TypeError, match=r"^DistillationGraph.matrix: weights must be a torch.Tensor, got list$"):
        GRAPH.matrix([1.0, 2.0, 3.0])


def test_subgraph_keeps_the_order_of_the_graph():
    assert GRAPH.subgraph(["vision", "language"]) == DistillationGraph.complete(["language", "vision"])
    assert GRAPH.subgraph(GRAPH.names) == GRAPH
    with pytest.raises(ValueError, match=r"^DistillationGraph has nodes \(.*\); names has 'touch' as well$"):
        GRAPH.subgraph(["language", "touch"])
    with pytest.raises(ValueError, match=r"^DistillationGraph: edges must hold at least 1 edge, got none$"):
        GRAPH.subgraph(["vision", "acoustic"])


@given(graphs())
def test_data_and_back(graph):
    weights, features = torch.rand(graph.num_edges), torch.randn(graph.num_nodes, 4)
    data = graph.to_data(weights, features)
    data.validate()
    assert data.is_sorted(sort_by_row=True)
    assert data.num_nodes == graph.num_nodes
    assert list(data.node_names) == list(graph.names)
    assert torch.equal(data.edge_weight, weights)
    assert torch.equal(data.x, features)
    assert DistillationGraph.from_data(data) == graph
    bare = graph.to_data()
    assert "edge_weight" not in bare
    assert "x" not in bare
    assert DistillationGraph.from_data(bare) == graph


@given(graphs(), st.randoms(use_true_random=False))
def test_sorting_shuffled_data_gives_the_edges_of_the_graph(graph, random):
    data = graph.to_data(torch.rand(graph.num_edges))
    wanted = data.edge_weight
    order = random.sample(range(graph.num_edges), graph.num_edges)
    data.edge_index, data.edge_weight = data.edge_index[:, order], data.edge_weight[order]
    assert DistillationGraph.from_data(data) == graph
    assert torch.equal(data.sort().edge_weight, wanted)


def test_from_data_without_names_counts_the_nodes():
    data = GRAPH.to_data()
    del data.node_names
    graph = DistillationGraph.from_data(data)
    assert graph.names == ("0", "1", "2")
    assert torch.equal(graph.edge_index, GRAPH.edge_index)


def test_errors_of_data():
    with pytest.raises(ValueError, match=r"^DistillationGraph.to_data: weights must have shape \(3,\), got \(2,\)$"):
        GRAPH.to_data(torch.rand(2))
    with pytest.raises(
        ValueError, match=r"^DistillationGraph.to_data: features must have shape \(3, dim\), got \(3,\)$"
    ):
        GRAPH.to_data(features=torch.rand(3))
    data = GRAPH.to_data()
    data.edge_index = None
    with pytest.raises(
        TypeError, match=r"^DistillationGraph.from_data: data must be a torch_geometric Data, got dict$"
    ):
        DistillationGraph.from_data({})
    with pytest.raises(ValueError, match=r"^DistillationGraph.from_data: data must have edge_index, got None$"):
        DistillationGraph.from_data(data)
    data = GRAPH.to_data()
    data.node_names = ["a", "b"]
    with pytest.raises(ValueError, match=r"data.node_names must hold 3 names, got 2$"):
        DistillationGraph.from_data(data)
    data = GRAPH.to_data()
    data.edge_index = torch.tensor([[0], [3]])
    with pytest.raises(ValueError, match=r"data.edge_index must lie in 0\.\.2, got 0\.\.3$"):
        DistillationGraph.from_data(data)


@given(graphs())
def test_networkx_and_back(graph):
    weights = torch.rand(graph.num_edges, dtype=torch.float64)
    directed = graph.to_networkx(weights)
    assert type(directed) is networkx.DiGraph
    assert tuple(directed) == graph.names
    assert tuple(directed.edges) == graph.edges
    matrix = networkx.to_numpy_array(directed, weight="weight")
    assert torch.equal(torch.from_numpy(matrix), graph.matrix(weights))
    assert DistillationGraph.from_networkx(directed) == graph
    bare = graph.to_networkx()
    assert not any(values for *_, values in bare.edges(data=True))
    assert DistillationGraph.from_networkx(bare) == graph


def test_weights_that_carry_a_gradient_become_numbers():
    edges = GRAPH.to_networkx(torch.tensor([0.5, 0.25, 0.25], requires_grad=True)).edges(data="weight")
    assert [weight for *_, weight in edges] == [0.5, 0.25, 0.25]


def test_networkx_orders_and_names_nodes():
    ring = networkx.DiGraph([(2, 0), (0, 1), (1, 2)])
    assert DistillationGraph.from_networkx(ring).edges == (("2", "0"), ("0", "1"), ("1", "2"))
    both = DistillationGraph.from_networkx(networkx.path_graph(["a", "b", "c"]).to_directed())
    assert both.edges == (("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"))


def test_torch_geometric_reads_the_same_networkx_graph():
    data = from_networkx(GRAPH.to_networkx(torch.tensor([0.5, 0.25, 0.25])))
    assert data.edge_index.tolist() == GRAPH.edge_index.tolist()
    assert data.weight.tolist() == [0.5, 0.25, 0.25]


class Distil(MessagePassing):
    """Eq. 7 as messages: every teacher i sends w_{i->j} * |x_i - x_j|_1 to its student j, who adds them up."""

    def __init__(self):
        super().__init__(aggr="add", flow="source_to_target")

    def forward(self, data):
        return self.propagate(data.edge_index, x=data.x, edge_weight=data.edge_weight)[:, 0]  # (node,)

    def message(self, x_j, x_i, edge_weight):  # torch_geometric calls the source j and the target i
        return edge_weight[:, None] * (x_j.detach() - x_i).abs().sum(dim=-1, keepdim=True)


class TargetSoftmax(MessagePassing):
    """Weights of the edges into each target: exp(score) over the target's sum of them."""

    def __init__(self):
        super().__init__(aggr="add", flow="source_to_target")

    def forward(self, edge_index, scores, num_nodes):
        sums = self.propagate(edge_index, powers=scores.exp()[:, None], size=(num_nodes, num_nodes))[:, 0]  # (node,)
        return scores.exp() / sums[edge_index[1]]

    def message(self, powers):
        return powers


@given(st.data())
def test_graph_distillation_loss_is_message_passing(data):
    graph = data.draw(graphs())
    x = data.draw(node_batches(num_nodes=graph.num_nodes, dtype=torch.float64)).requires_grad_()
    weights = data.draw(node_batches(batch=x.shape[0], num_nodes=graph.num_edges, dim=1, dtype=torch.float64))[..., 0]
    ours = GF.graph_distillation_loss(weights, GF.edge_distances(x, graph.edge_index))
    received = Distil()(Batch.from_data_list([graph.to_data(w, sample) for w, sample in zip(weights, x)]))
    theirs = received.view(len(x), graph.num_nodes).sum(dim=1).mean()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x))


@given(st.data())
def test_edge_weights_of_targets_are_message_passing(data):
    graph = data.draw(graphs())
    scores = data.draw(node_batches(num_nodes=graph.num_edges, dim=1, dtype=torch.float64))[..., 0].requires_grad_()
    ours = GF.edge_weights(scores, graph.edge_index, graph.num_nodes, "target")
    theirs = torch.stack([TargetSoftmax()(graph.edge_index, row, graph.num_nodes) for row in scores])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours.square().sum(), scores), torch.autograd.grad(theirs.square().sum(), scores)
    )
