"""Whether a function and its plain loop agree, in value and gradient."""

import torch


def value_and_gradients(function, inputs):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*leaves)
    cotangent = torch.linspace(1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
    return [value, *torch.autograd.grad(value, leaves, cotangent, allow_unused=True, materialize_grads=True)]


def assert_same(ours, loops, *inputs):
    """Same value, and same gradient at every input, as the loops give in float64."""
    wanted = value_and_gradients(loops, [x.double() for x in inputs])
    tolerance = 1e-9 if inputs[0].dtype == torch.float64 else 1e-4
    for got, want in zip(value_and_gradients(ours, inputs), wanted):
        assert got.dtype == inputs[0].dtype
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance * scale)
