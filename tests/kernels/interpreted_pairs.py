"""The kernels for all pairs of nodes in Triton's interpreter; tests/test_pair_kernels.py runs this file by itself.

Not collected by itself: TRITON_INTERPRET=1 must be set before Triton is imported.
"""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gdkit import _pairwise
from gdkit._pair_operator import pair_sums
from gdkit._pairwise import distances_along, edge_by_edge

settings.register_profile("interpreter", deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
settings.load_profile("interpreter")


@given(st.data())
def test_distances_and_gradients_are_those_of_all_differences(data):
    batch, num_nodes, dim = (data.draw(st.integers(1, most)) for most in (3, 70, 70))
    dtype = data.draw(st.sampled_from((torch.float32, torch.float64)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    shape = (num_nodes, batch, dim)  # and not side by side in memory
    if data.draw(st.booleans()):  # many numbers are equal
        draw = [torch.randint(-1, 2, shape, generator=generator) for _ in range(2)]
    else:
        draw = [torch.randn(shape, generator=generator) for _ in range(2)]
    teacher, student = (x.to(dtype).transpose(0, 1).requires_grad_() for x in draw)
    if data.draw(st.booleans()):
        teacher = student
    table = pair_sums(teacher, student, None, "l1")
    wanted = (teacher[:, :, None] - student[:, None]).abs().sum(-1)
    torch.testing.assert_close(table, wanted, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(wanted.shape, generator=generator, dtype=dtype)
    gradients = (torch.autograd.grad(out, [teacher, student], upstream) for out in (table, wanted))
    for got, exactly in zip(*gradients):
        torch.testing.assert_close(got, exactly, rtol=1e-4, atol=1e-4)


def test_only_the_gradient_that_is_wanted_is_computed():
    teacher, student = torch.randn(2, 5, 3), torch.randn(2, 5, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(pair_sums(teacher, student, None, "l1").sum(), student)
    torch.testing.assert_close(gradient, (student[:, None] - teacher[:, :, None]).sign().sum(1))


def test_the_same_call_gives_the_same_bits():
    x = torch.randn(2, 70, 5, requires_grad=True)
    tables = [pair_sums(x, x, None, "l1") for _ in range(2)]
    assert torch.equal(*tables)
    assert torch.equal(*(torch.autograd.grad(table.square().sum(), x)[0] for table in tables))


def test_the_operator_is_a_good_citizen_of_pytorch():
    teacher, student = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    torch.library.opcheck(torch.ops.gdkit.pair_sums.default, (teacher, student, None, "l1"))
    backward = torch.ops.gdkit.pair_sums_backward.default
    torch.library.opcheck(backward, (torch.randn(2, 5, 5), teacher, student, None, "l1"))


@pytest.mark.parametrize("detach_teacher", [True, False])
def test_it_compiles_in_one_graph_and_runs_under_vmap(detach_teacher, monkeypatch):
    edge_index = (1 - torch.eye(20)).nonzero().T.contiguous()
    monkeypatch.setattr(_pairwise, "_l1_table", lambda teacher, student: pair_sums(teacher, student, None, "l1"))

    def loss(x, sums=_pairwise.from_table):
        return distances_along(x, edge_index, "l1", 1.0, detach_teacher, sums=sums).square().sum()

    x = torch.randn(3, 2, 20, 4, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    wanted = [torch.autograd.grad(loss(one, edge_by_edge), one)[0] for one in x.detach().requires_grad_().unbind()]
    for one, gradient in zip(x.detach(), wanted):
        one = one.clone().requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(compiled(one), one)[0], gradient)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x.detach()), torch.stack(wanted))
