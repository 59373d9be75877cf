"""MultimodalTransformer: which node answers which, in which order, with absent nodes, and its error texts."""

import pytest
import torch

from gdkit import MultimodalTransformer
from gdkit.testing import check_padding_invariance, check_permutation_equivariance

NAMES = ("language", "vision", "acoustic")


def make(**options):
    module = MultimodalTransformer(NAMES, 10, 2, 1, **options).double()
    for parameter in module.parameters():  # norms and biases too
        torch.nn.init.normal_(parameter, std=0.1)
    return module


def sequence(time):
    return torch.randn(3, time, 10, dtype=torch.float64)


def is_close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def features(**times):
    return {name: sequence(times.get(name, 5)) for name in NAMES}


@pytest.mark.parametrize("num_memory_layers", [0, 2])
def test_every_node_is_the_concatenation_of_the_others_answers_in_the_order_of_names(num_memory_layers):
    module = make(num_memory_layers=num_memory_layers)
    inputs = features(vision=7, acoustic=3)
    given_masks = {name: torch.rand(x.shape[:2]) > 0.3 for name, x in inputs.items()}
    for mask in (given_masks, None):
        out = module(dict(reversed(inputs.items())), mask)
        assert list(out) == list(NAMES)
        of = dict.fromkeys(NAMES) if mask is None else mask
        for target in NAMES:
            parts = [
                module.reinforce[target][source](inputs[target], inputs[source], of[target], of[source])
                for source in NAMES
                if source != target
            ]
            wanted = torch.cat(parts, dim=-1)
            if num_memory_layers:
                assert module.memory[target].num_layers == num_memory_layers
                wanted = module.memory[target](wanted, None, of[target])
            assert out[target].shape == (3, inputs[target].shape[1], 20)
            is_close(out[target], wanted)
    assert len(module.memory) == (3 if num_memory_layers else 0)


def test_attention_of_every_pair_on_request():
    module, inputs = MultimodalTransformer(NAMES, 10, 2, 3).double(), features(vision=7)
    out, weights = module(inputs, return_attention=True)
    is_close(out["vision"], module(inputs)["vision"])
    assert set(weights) == {(source, target) for source in NAMES for target in NAMES if source != target}
    assert [part.shape for part in weights["vision", "language"]] == [(3, 2, 5, 7)] * 3


def test_an_absent_node_changes_no_answer_of_the_others():
    module, inputs = make(), features()
    given_masks = {name: torch.full((3, 5), name != "acoustic") for name in NAMES}
    out = module(inputs | {"acoustic": torch.full((3, 5, 10), torch.nan, dtype=torch.float64)}, given_masks)
    whole, shorter = module(inputs), module(inputs | {"acoustic": sequence(0)})
    assert not out["acoustic"].any()
    for name in ("language", "vision"):
        is_close(out[name][..., :10], whole[name][..., :10])
        is_close(out[name], shorter[name])


@pytest.mark.parametrize("num_memory_layers", [0, 1])
def test_padding_and_batch_order_change_nothing(num_memory_layers):
    module, inputs = make(num_memory_layers=num_memory_layers), features(vision=7)
    given_masks = {name: torch.rand(x.shape[:2]) > 0.3 for name, x in inputs.items()}
    check_padding_invariance(module, inputs, given_masks)
    check_permutation_equivariance(module, inputs, given_masks)


def test_options_reach_the_transformers():
    module = make(num_memory_layers=1, feedforward_dim=7, dropout=0.5, attention_dropout=0.25, band=2)
    for part in (module.reinforce["language"]["vision"], module.memory["vision"]):
        assert part.band == 2
        assert part.dropout.p == 0.5
        assert part.layers[0].attention_dropout == 0.25
        assert part.layers[0].expand.out_features == 7


X = torch.zeros(4, 5, 10, dtype=torch.float64)
REAL = torch.ones(4, 5, dtype=torch.bool)
OWNER = "MultimodalTransformer"

ERRORS = [
    (
        lambda: MultimodalTransformer(["a"], 10, 2, 1),
        f"{OWNER}: names must hold at least 2 different nodes, got ('a',)",
    ),
    (
        lambda: MultimodalTransformer(["a", "b", "a"], 10, 2, 1),
        f"{OWNER}: names must hold at least 2 different nodes, got ('a', 'b', 'a')",
    ),
    (
        lambda: MultimodalTransformer(["a", "keys"], 10, 2, 1),
        f"{OWNER}: node name 'keys' cannot name a submodule: it is empty, has a dot, or is taken",
    ),
    (lambda: make(num_memory_layers=-1), f"{OWNER}: num_memory_layers must be at least 0, got -1"),
    (
        lambda: make()({"language": X, "vision": X}),
        f"{OWNER} has nodes (language, vision, acoustic); features lacks 'acoustic'",
    ),
    (
        lambda: make()(dict.fromkeys(NAMES, X), {"language": REAL}),
        f"{OWNER} has nodes (language, vision, acoustic); masks lacks 'vision', 'acoustic'",
    ),
    (
        lambda: make()(dict.fromkeys(NAMES, X) | {"acoustic": X[..., :3]}),
        f"{OWNER}: features['acoustic'] must have shape (4, time, 10), got (4, 5, 3)",
    ),
    (
        lambda: make()(dict.fromkeys(NAMES, X) | {"vision": X[:3]}),
        f"{OWNER}: features['vision'] must have shape (4, time, 10), got (3, 5, 10)",
    ),
    (
        lambda: make()(dict.fromkeys(NAMES, X), dict.fromkeys(NAMES, REAL) | {"vision": REAL[:, :4]}),
        f"{OWNER}: masks['vision'] must have shape (4, 5), got (4, 4)",
    ),
    (
        lambda: make()(dict.fromkeys(NAMES, X), dict.fromkeys(NAMES, REAL) | {"vision": REAL.long()}),
        f"{OWNER}: masks['vision'] must be boolean (True = real or present), got torch.int64",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:70] for _, message in ERRORS])
def test_errors_name_argument_wanted_and_given(call, message):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert str(error.value) == message
