"""Transformers that run together give what they give one by one."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gdkit import CrossmodalTransformer, MultimodalTransformer
from gdkit.stacking import run_together

DIM, BATCH = 8, 3


def transformers_of(number, *, bands=(None,), layers=3, dropout=0.0, attention_dropout=0.0):
    made = []
    for n in range(number):
        options = {"dropout": dropout, "attention_dropout": attention_dropout, "band": bands[n % len(bands)]}
        made.append(CrossmodalTransformer(DIM, 2, layers, **options).double())
        for parameter in made[-1].parameters():  # also of layer norms, which are drawn as ones and zeros
            nn.init.normal_(parameter, std=0.3)
    return made


def sequences(number, time):
    return [torch.randn(BATCH, time, DIM, dtype=torch.float64, requires_grad=True) for _ in range(number)]


def masks_of(number, time, masked):
    return [torch.rand(BATCH, time) > 0.3 for _ in range(number)] if masked else None


def results_of(transformers, targets, sources, *masks, **options):
    """Results and gradients of everything that has one."""
    results = run_together(transformers, targets, sources, *masks, **options)
    leaves = [*(p for each in transformers for p in each.parameters()), *targets, *(sources or [])]
    weighed = [(x * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)).sum() for x in results]
    return [*results, *torch.autograd.grad(sum(weighed), leaves)]


@pytest.mark.parametrize("last_step", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("bands", [(None,), (0, None, 2)])
def test_stacked_is_one_by_one(crossed, masked, last_step, bands):
    transformers = transformers_of(4, bands=bands)
    given = sequences(4, 5), sequences(4, 7) if crossed else None
    masks = masks_of(4, 5, masked), masks_of(4, 7, masked) if crossed else None
    both = [results_of(transformers, *given, *masks, last_step=last_step, stacked=each) for each in (False, True)]
    torch.testing.assert_close(*both)


def test_what_is_not_alike_runs_by_itself_and_results_keep_their_places():
    torch.manual_seed(0)
    transformers = [*transformers_of(2), *transformers_of(2, layers=1), *transformers_of(1)]
    targets = [*sequences(1, 4), *sequences(4, 5)]  # the first differs in length, the third and fourth in depth
    both = [results_of(transformers, targets, None, stacked=each) for each in (False, True)]
    torch.testing.assert_close(*both)


def test_a_hooked_or_adapted_transformer_runs_by_itself():
    class Adapter(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.weight, self.bias = inner.weight, inner.bias

        def forward(self, x):
            return self.inner(x) + 1

    transformers, targets, seen = transformers_of(4), sequences(4, 5), []
    transformers[1].layers[0].expand = Adapter(transformers[1].layers[0].expand)
    transformers[2].layers[0].register_forward_hook(lambda *arguments: seen.append(1))
    both = [run_together(transformers, targets, stacked=each) for each in (False, True)]
    torch.testing.assert_close(*both)
    assert len(seen) == 2


def test_the_last_step_is_that_of_all_steps():
    transformer = transformers_of(1, bands=(1,))[0]
    target, source, mask = *sequences(1, 5), *sequences(1, 9), torch.rand(BATCH, 5) > 0.5
    all_steps = transformer(target, source, mask)
    torch.testing.assert_close(transformer(target, source, mask, last_step=True), all_steps[:, -1])
    with pytest.raises(ValueError, match="last_step needs a target of at least 1 step, got none"):
        transformer(target[:, :0], source, last_step=True)


def test_multimodal_transformers_stack(monkeypatch):
    model = MultimodalTransformer(["a", "b", "c"], DIM, 2, 2, num_memory_layers=1).double()
    features = dict(zip("abc", sequences(3, 5)))
    masks = dict(zip("abc", masks_of(3, 5, True)))
    one_by_one = model(features, masks)
    monkeypatch.setattr("gdkit.stacking._pays", lambda _: True)
    torch.testing.assert_close(model(features, masks), one_by_one)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features, masks), one_by_one)


def test_dropout_acts_and_differs_between_the_transformers():
    model = transformers_of(1, dropout=0.5, attention_dropout=0.5)[0]
    target = sequences(1, 6)[0]
    first, second = run_together([model, model], [target, target], stacked=True)
    assert not torch.allclose(first, second)
    model.eval()
    first, second = run_together([model, model], [target, target], stacked=True)
    torch.testing.assert_close(first, second)


class Counted(TorchDispatchMode):
    """Counts operations that are no views."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += not function.is_view
        return function(*args, **(kwargs or {}))


def test_the_number_of_operations_does_not_grow_with_that_of_transformers():
    counts = []
    for number in (2, 6):
        transformers, targets, counted = transformers_of(number), sequences(number, 5), Counted()
        with counted:
            run_together(transformers, targets, stacked=True)
        counts.append(counted.operations)
    assert counts[0] == counts[1]


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="sources must hold one for each of 2 transformers, got 1"):
        run_together(transformers_of(2), sequences(2, 5), sequences(1, 5))
    with pytest.raises(ValueError, match=r"source must have shape \(3, source time, 8\), got \(3, 7, 6\)"):
        run_together(transformers_of(2), sequences(2, 5), [torch.zeros(3, 7, 6).double()] * 2, stacked=True)
