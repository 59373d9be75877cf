"""Distances along edges without the edges' vectors: both forms are the plain loop, and hold little."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gdkit.functional as GF
from benchmarks import naive
from benchmarks.suite.counters import count_cpu
from benchmarks.suite.memory import peak_cpu
from gdkit import DistillationGraph, GDUnit, _edge_chunks, _pairwise
from gdkit._pairwise import choose_sums, distances_along, edge_by_edge, from_table
from gdkit.testing import graphs, node_batches

DISTANCES = ("l1", "l2", "cosine", "kl")
FORMS = pytest.mark.parametrize("form", [from_table, edge_by_edge], ids=lambda form: form.__name__)
EVERY = pytest.mark.parametrize("distance", DISTANCES)
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=[0, 16])
def few(request, monkeypatch):
    """As if any number of nodes were many; and as it is, with a few edges in a chunk."""
    monkeypatch.setattr(_pairwise, "FEW", request.param)
    monkeypatch.setattr(_edge_chunks, "CPU_CHUNK", 24)


@FORMS
@EVERY
@pytest.mark.usefixtures("few")
@given(data=st.data())
def test_every_form_is_the_plain_loop(form, distance, data):
    graph = data.draw(graphs())
    x = data.draw(node_batches(num_nodes=graph.num_nodes, zero_vectors=True))
    temperature = data.draw(st.sampled_from((0.5, 1.0, 3.0)))
    detach_teacher = data.draw(st.booleans())
    repeated = data.draw(st.lists(st.integers(0, graph.num_edges - 1), min_size=1, max_size=12))
    edge_index = graph.edge_index[:, repeated]  # in any order, some more than once
    leaves = [x.detach().clone().requires_grad_() for _ in range(2)]
    ours = distances_along(leaves[0], edge_index, distance, temperature, detach_teacher, sums=form)
    theirs = naive.edge_distances(leaves[1].double(), edge_index, distance, temperature, detach_teacher)
    tolerance = 1e-9 if x.dtype == torch.float64 else 2e-4
    upstream = torch.linspace(-1, 2, ours.numel()).view(ours.shape).to(theirs)
    gradients = [torch.autograd.grad(out, leaf, upstream.to(out)) for out, leaf in zip((ours, theirs), leaves)]
    scale = max(1.0, theirs.abs().max().item())
    assert ours.dtype == x.dtype
    torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance * scale)
    torch.testing.assert_close(
        gradients[0][0].double(), gradients[1][0].double(), rtol=tolerance, atol=tolerance * scale
    )


@FORMS
@EVERY
@pytest.mark.parametrize("detach_teacher", [True, False])
@pytest.mark.usefixtures("few")
def test_gradients_by_finite_differences(form, distance, detach_teacher):
    edge_index = DistillationGraph.complete("abcd").edge_index
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    teachers = x.detach().clone()

    def distances(x):
        if not detach_teacher:
            return distances_along(x, edge_index, distance, 1.5, False, sums=form)
        # The teachers stand still, as they do for the gradient: as nodes of their own, which teach the others.
        between = torch.cat([teachers, x], dim=1), edge_index + torch.tensor([[0], [4]])
        return distances_along(*between, distance, 1.5, True, sums=form)

    assert torch.autograd.gradcheck(distances, x)


@FORMS
@EVERY
def test_a_batch_of_everything_equal_is_at_distance_zero(form, distance):
    x = (100 + 50 * torch.randn(2, 1, 7)).expand(2, 20, 7).clone().requires_grad_()
    edge_index = DistillationGraph.complete(map(str, range(20))).edge_index
    far = distances_along(x, edge_index, distance, 1.0, False, sums=form)
    assert far.abs().max() < 1e-5
    (gradient,) = torch.autograd.grad(far.sum(), x)
    assert gradient.abs().max() < 1e-4


@FORMS
def test_squares_do_not_cancel_far_from_the_origin(form):
    x = 1000 + torch.randn(2, 30, 8)
    edge_index = DistillationGraph.complete(map(str, range(30))).edge_index
    far = distances_along(x, edge_index, "l2", 1.0, True, sums=form)
    wanted = (x[:, edge_index[0]].double() - x[:, edge_index[1]].double()).square().sum(-1)
    torch.testing.assert_close(far.double(), wanted, rtol=1e-4, atol=1e-5)
    assert (far >= 0).all()


@FORMS
@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_vectors_are_summed_in_32(form, distance, dtype):
    x = torch.randn(2, 20, 300).to(dtype).requires_grad_()
    edge_index = DistillationGraph.complete(map(str, range(20))).edge_index
    with torch.autocast("cpu", dtype=torch.bfloat16):
        far = distances_along(x, edge_index, distance, 1.0, True, sums=form)
    wanted = distances_along(x.float(), edge_index, distance, 1.0, True, sums=form)
    assert far.dtype == dtype
    torch.testing.assert_close(far, wanted.to(dtype), rtol=0, atol=0)
    assert torch.autograd.grad(far.float().mean(), x)[0].isfinite().all()


def sparse(num_nodes, teachers):
    """Every node has some teachers."""
    edges = [(i, (i + 1 + k) % num_nodes) for i in range(num_nodes) for k in range(teachers)]
    return DistillationGraph.from_edges(map(str, range(num_nodes)), [(str(i), str(j)) for i, j in edges])


@pytest.mark.parametrize(
    "graph", [DistillationGraph.complete(map(str, range(64))), sparse(1024, 16)], ids=["complete", "sparse"]
)
@pytest.mark.parametrize("detach_teacher", [True, False])
@EVERY
def test_no_vector_for_every_edge_is_ever_held(graph, detach_teacher, distance):
    batch, dim = 2, 128
    unit = GDUnit(graph, dim, dim, 4, distance=distance, feature_distance=distance, detach_teacher=detach_teacher)
    logits, features = (torch.randn(batch, graph.num_nodes, dim, requires_grad=True) for _ in range(2))
    peak, _ = peak_cpu(lambda: torch.autograd.grad(unit(logits, features).loss, [logits, features]))
    assert peak < 4 * batch * graph.num_edges * dim


@pytest.mark.parametrize("num_nodes", [3, 16, 64])
def test_a_unit_starts_few_operations_at_any_number_of_nodes(num_nodes):
    unit = GDUnit(DistillationGraph.complete(map(str, range(num_nodes))), 8, 1, 4, feature_distance="l1")
    logits, features = torch.randn(2, num_nodes, 1), torch.randn(2, num_nodes, 8, requires_grad=True)
    forward, waits, loss = count_cpu(lambda: unit(logits, features).loss)
    backward, _, _ = count_cpu(lambda: torch.autograd.grad(loss, [features, *unit.parameters()]))
    assert (forward <= 20, backward <= 40, waits) == (True, True, 0)


@pytest.mark.parametrize(("distance", "num_nodes"), [("cosine", 20), ("kl", 20), ("l2", 5)])
def test_second_derivatives_where_they_are_promised(distance, num_nodes):
    x = torch.randn(1, num_nodes, 2, dtype=torch.float64, requires_grad=True)
    edge_index = DistillationGraph.complete(map(str, range(num_nodes))).edge_index[:, :7]
    assert torch.autograd.gradgradcheck(
        lambda x: distances_along(x, edge_index, distance, 1.0, False, sums=from_table), x
    )


def test_the_form_follows_from_sizes():
    x = torch.zeros(1, 100, 3)
    pairs = 100 * 99
    for kind, share in _pairwise.TABLE_FROM.items():
        assert choose_sums(kind, x, int(share * pairs) + 1) is from_table
        assert choose_sums(kind, x, int(share * pairs) - 1) is edge_by_edge
        assert choose_sums(kind, x[:, :16], 1) is from_table


def test_without_triton_a_gpu_goes_along_the_edges(monkeypatch):
    many = SimpleNamespace(shape=(1, 100, 3), is_cuda=True, device=None)
    for kind, wanted in (("l1", edge_by_edge), ("dot", from_table)):
        monkeypatch.setattr("gdkit._triton._HAS_TRITON", False)
        assert choose_sums(kind, many, 9900) is wanted


@pytest.mark.parametrize("kind", ["l1", "l2", "dot"])
def test_the_operator_is_a_good_citizen_of_pytorch(kind):
    teacher, student = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    edges = DistillationGraph.complete("abcde").edge_index
    torch.library.opcheck(torch.ops.gdkit.pair_sums.default, (teacher, student, edges, kind))
    backward = torch.ops.gdkit.pair_sums_backward.default
    torch.library.opcheck(backward, (torch.randn(2, 20), teacher, student, edges, kind))


@FORMS
@EVERY
def test_no_edges_give_nothing(form, distance):
    x = torch.randn(2, 20, 3, requires_grad=True)
    far = distances_along(x, torch.zeros(2, 0, dtype=torch.int64), distance, 1.0, False, sums=form)
    assert far.shape == (2, 0)
    assert not torch.autograd.grad(far.sum(), x)[0].any()


@FORMS
@EVERY
def test_graphs_below_vmap_are_each_by_itself(form, distance):
    x, edge_index = torch.randn(3, 2, 20, 4), sparse(20, 3).edge_index

    def loss(x):
        return distances_along(x, edge_index, distance, 1.0, False, sums=form).square().sum()

    together = torch.func.vmap(torch.func.grad(loss))(x)
    for one, wanted in zip(x, together):
        torch.testing.assert_close(torch.func.grad(loss)(one), wanted)


@pytest.mark.gpu
@NEEDS_CUDA
@EVERY
@pytest.mark.parametrize("detach_teacher", [True, False])
@pytest.mark.parametrize(
    "graph", [DistillationGraph.complete(map(str, range(70))), sparse(70, 4)], ids=["complete", "sparse"]
)
def test_on_a_gpu_distances_are_those_of_the_cpu(graph, detach_teacher, distance):
    x = torch.randn(3, 70, 130, dtype=torch.float64, requires_grad=True)
    wanted = GF.edge_distances(x, graph.edge_index, distance, detach_teacher=detach_teacher)
    on_gpu = x.detach().cuda().requires_grad_()
    got = GF.edge_distances(on_gpu, graph.edge_index.cuda(), distance, detach_teacher=detach_teacher)
    torch.testing.assert_close(got.cpu(), wanted)
    gradients = [torch.autograd.grad(far.square().sum(), leaf)[0] for far, leaf in ((got, on_gpu), (wanted, x))]
    torch.testing.assert_close(gradients[0].cpu(), gradients[1])


@pytest.mark.gpu
@NEEDS_CUDA
def test_on_a_gpu_a_thousand_nodes_hold_a_table_and_no_differences():
    x = torch.randn(16, 1024, 256, device="cuda", requires_grad=True)
    edge_index = DistillationGraph.complete(map(str, range(1024))).edge_index.cuda()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    GF.edge_distances(x, edge_index).sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 16 * 1024 * 1024 * 256


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine", "kl"])
def test_along_edges_second_derivatives_are_refused_and_an_empty_batch_is_not(distance):
    x = torch.randn(1, 24, 2, requires_grad=True)
    edge_index = torch.tensor([[1, 2, 3], [0, 0, 5]])
    far = distances_along(x, edge_index, distance, 1.0, True, sums=edge_by_edge)
    (gradient,) = torch.autograd.grad(far.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(gradient.square().sum(), x)
    assert distances_along(x[:0], edge_index, distance, 1.0, True, sums=edge_by_edge).shape == (0, 3)


def test_a_node_far_away_moves_no_other_distance():
    x = torch.randn(1, 24, 4, dtype=torch.float64)
    edge_index = DistillationGraph.complete(map(str, range(24))).edge_index
    wanted = distances_along(x, edge_index, "l2", 1.0, True)
    others = (edge_index != 0).all(dim=0)
    for value in (3e4, torch.nan):
        moved = x.float().clone()
        moved[:, 0] = value
        far = distances_along(moved, edge_index, "l2", 1.0, True)
        torch.testing.assert_close(far[:, others].double(), wanted[:, others], rtol=1e-5, atol=1e-5)
