"""Transformers that run together give what they give one by one."""

import pytest
import torch
from torch import nn

from benchmarks.suite.counters import OperationCounter
from gdkit import CrossmodalTransformer, MultimodalTransformer
from gdkit._stacked_task import Task, groups_of
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
@pytest.mark.parametrize("source_time", [None, 7, 0])
@pytest.mark.parametrize("bands", [(None,), (0, None, 2), (-(2**70),)])
def test_stacked_is_one_by_one(source_time, masked, last_step, bands):
    transformers = transformers_of(4, bands=bands)
    crossed = source_time is not None
    given = sequences(4, 5), sequences(4, source_time) if crossed else None
    masks = masks_of(4, 5, masked), masks_of(4, source_time, masked) if crossed else None
    both = [results_of(transformers, *given, *masks, last_step=last_step, stacked=each) for each in (False, True)]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("last_step", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("bands", [(None,), (0,), (1, -1, None, 2)])
def test_sequences_of_several_lengths_run_together(crossed, masked, last_step, bands):
    transformers = transformers_of(4, bands=bands)
    times, source_times = (5, 3, 5, 6), (4, 7, 1, 7)
    given = [x for time in times for x in sequences(1, time)], [x for time in source_times for x in sequences(1, time)]
    masks = [torch.rand(BATCH, time) > 0.3 for time in times], [torch.rand(BATCH, time) > 0.3 for time in source_times]
    if masked:
        masks[0][1] = masks[1][2] = None
    columns = (given[0], given[1] if crossed else None, masks[0] if masked else None)
    columns = (*columns, masks[1] if masked and crossed else None)
    tasks = [Task(t, x, given[1][0] if crossed else None, None, None) for t, x in zip(transformers, given[0])]
    assert len(groups_of(tasks)) == 1
    both = [results_of(transformers, *columns, last_step=last_step, stacked=each) for each in (False, True)]
    torch.testing.assert_close(*both)


def test_far_longer_sequences_run_by_themselves():
    transformers = transformers_of(4)
    targets = [x for time in (2, 30, 2, 2) for x in sequences(1, time)]
    places = groups_of([Task(t, x, None, None, None) for t, x in zip(transformers, targets, strict=True)])
    assert sorted(places) == [[0, 2, 3], [1]]
    torch.testing.assert_close(*(results_of(transformers, targets, None, stacked=each) for each in (False, True)))


def test_what_is_not_alike_runs_by_itself_and_results_keep_their_places():
    torch.manual_seed(0)
    transformers = [*transformers_of(2), *transformers_of(2, layers=1), *transformers_of(1)]
    targets = [*sequences(1, 4), *sequences(4, 5)]  # the third and fourth differ in depth
    both = [results_of(transformers, targets, None, stacked=each) for each in (False, True)]
    torch.testing.assert_close(*both)


def test_targets_of_no_step_stay_so():
    transformers = transformers_of(2)
    together = run_together(transformers, sequences(2, 0), sequences(2, 4), stacked=True)
    assert [x.shape for x in together] == [(BATCH, 0, DIM)] * 2


class Adapter(nn.Module):
    """What replaces a linear map in fine-tuning."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.shift = inner, nn.Parameter(torch.ones(inner.out_features).double())
        self.weight, self.bias = inner.weight, inner.bias

    def forward(self, x):
        return self.inner(x) + self.shift


def hooked(transformer):
    transformer.layers[1].register_forward_hook(lambda module, inputs, output: (output[0] * 2, output[1]))


def adapted(transformer):
    transformer.layers[0].in_projection = Adapter(transformer.layers[0].in_projection)


def patched(transformer):
    inner = transformer.layers[0].expand.forward
    transformer.layers[0].expand.forward = lambda x: inner(x) + 1


def other_epsilon(transformer):
    transformer.layers[2].feedforward_norm.eps = 1.0


def of_another_class(transformer):
    class Doubled(CrossmodalTransformer):
        def forward(self, *arguments, **options):
            return 2 * super().forward(*arguments, **options)

    transformer.__class__ = Doubled


def with_learned_positions(transformer):
    class Learned(CrossmodalTransformer):
        def positions(self, x, mask):
            return super().positions(x, mask) + self.moved

    transformer.__class__ = Learned
    transformer.moved = nn.Parameter(torch.randn(DIM).double())


def with_options_of_its_own(transformer):
    class Numbered(CrossmodalTransformer):
        def positions(self, x, mask):
            return super().positions(x, mask) * self.factor

    transformer.__class__, transformer.factor = Numbered, 3.0


@pytest.mark.parametrize("source_time", [None, 4])
@pytest.mark.parametrize(
    "change",
    [hooked, adapted, patched, other_epsilon, of_another_class, with_learned_positions, with_options_of_its_own],
)
def test_what_was_changed_in_a_transformer_counts(change, source_time):
    transformers, targets = transformers_of(4), sequences(4, 5)
    sources = None if source_time is None else sequences(4, source_time)
    before = run_together(transformers, targets, sources, stacked=True)
    change(transformers[1])
    both = [run_together(transformers, targets, sources, stacked=each) for each in (False, True)]
    torch.testing.assert_close(*both)
    assert not torch.allclose(both[1][1], before[1])
    torch.testing.assert_close([both[1][n] for n in (0, 2, 3)], [before[n] for n in (0, 2, 3)])


def test_an_adapter_of_the_projection_is_trained_where_a_source_answers():
    transformer = transformers_of(1)[0]
    adapted(transformer)
    transformer(*sequences(1, 5), *sequences(1, 4)).square().sum().backward()
    assert transformer.layers[0].in_projection.shift.grad.abs().min() > 0


@pytest.mark.parametrize("chance", ["dropout", "attention_dropout"])
@pytest.mark.parametrize("modes", [(True, False, True, False), (False, True, True, False)])
def test_each_transformer_keeps_its_mode(chance, modes):
    transformers, target = transformers_of(4, **{chance: 0.5}), sequences(1, 5)[0]
    for transformer, mode in zip(transformers, modes, strict=True):
        transformer.train(mode)
    once, again = (run_together(transformers, [target] * 4, stacked=True) for _ in range(2))
    assert [torch.equal(x, y) for x, y in zip(once, again)] == [not mode for mode in modes]


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


def test_the_number_of_operations_does_not_grow_with_that_of_transformers():
    counts = []
    for number in (2, 6):
        transformers, targets, counted = transformers_of(number), sequences(number, 5), OperationCounter()
        with counted:
            run_together(transformers, targets, stacked=True)
        counts.append(counted.operations)
    assert counts[0] == counts[1]


def test_wrong_lists_are_refused():
    transformers, targets = transformers_of(2), sequences(2, 5)
    for arguments, error, message in (
        (
            (transformers, targets, sequences(1, 5)),
            ValueError,
            "sources must hold one for each of 2 transformers, got 1",
        ),
        ((transformers, iter(targets)), TypeError, "targets must be a list, got list_iterator"),
        ((transformers, None), TypeError, "targets must be a list, got NoneType"),
        (({"a": transformers[0]}, targets), TypeError, "transformers must be a list, got dict"),
        (([transformers[0], nn.Linear(2, 2)], targets), TypeError, r"transformers\[1\] must be a .* got Linear"),
    ):
        with pytest.raises(error, match=message):
            run_together(*arguments)
    with pytest.raises(ValueError, match=r"source must have shape \(3, source time, 8\), got \(3, 7, 6\)"):
        run_together(transformers, targets, [torch.zeros(3, 7, 6).double()] * 2, stacked=True)


@pytest.mark.gpu
def test_a_gpu_stacks_by_itself():
    transformers = [each.float().cuda() for each in transformers_of(4, bands=(0, None))]
    targets = [torch.randn(BATCH, time, DIM, device="cuda") for time in (5, 7, 5, 5)]
    one_by_one = run_together(transformers, targets, stacked=False)
    with OperationCounter() as counted:
        together = run_together(transformers, targets)
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-5)
    with OperationCounter() as counted_alone:
        run_together(transformers, targets, stacked=False)
    assert counted.operations < 0.6 * counted_alone.operations
