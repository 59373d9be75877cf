"""The rebuilt published network and objective against what the published program computed."""

from pathlib import Path

import numpy as np
import pytest
from dmd import released
from dmd.released import NAMES, ReleasedObjective
from dmd.released_objective import GRAPH, PUBLISHED_EDGES, PUBLISHED_ORDER

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = ("dmd_aligned", "dmd_unaligned", "dmd_mosei_kernels", "dmd_equal_width")


def golden(name):
    """The arrays of a recorded case."""
    path = GOLDEN / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"the golden file tests/golden/{path.name} is absent")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def replayed():
    """Each case with its replay, computed once."""
    found = {}

    def of(name):
        if name not in found:
            case = golden(name)
            found[name] = case, released.replay(case)
        return found[name]

    return of


@pytest.mark.parametrize("name", CASES)
def test_replay_gives_every_recorded_number(replayed, name):
    case, found = replayed(name)
    wanted = [key for key in case if key.startswith(("out.", "edges.", "loss.")) or ".gradnorm." in key]
    assert list(found) == wanted
    assert {"loss.total", "loss.hetero_repr", "edges.homo", "out.output_logit"} <= found.keys()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("part", ["out.", "edges.", "loss."])
def test_replay_agrees_with_the_published_values(replayed, name, part):
    case, found = replayed(name)
    for key in (key for key in found if key.startswith(part)):
        assert found[key].shape == case[key].shape
        assert np.abs(found[key] - case[key]).max() <= 1e-4 * np.abs(case[key]).max(), key


@pytest.mark.parametrize("name", CASES)
def test_replay_agrees_with_the_published_gradient_norms(replayed, name):
    case, found = replayed(name)
    for key in (key for key in found if ".gradnorm." in key):
        assert found[key] == pytest.approx(case[key], rel=1e-4, abs=1e-6), key


def test_replay_names_what_a_case_lacks():
    case = golden("dmd_equal_width")
    del case["in.labels"]
    with pytest.raises(ValueError, match=r"replay: the case lacks 'in\.labels'"):
        released.replay(case)
    case = golden("dmd_equal_width")
    del case["homo.state.W_edge.bias"]
    with pytest.raises(ValueError, match=r"replay: the case lacks homo\.state\.W_edge\.bias"):
        released.replay(case)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": np.array("heads: 2")}, r"replay: 'config' must be the repr of a dict, got 'heads: 2'"),
        ({"config": np.array("{'dim': 2}")}, r"replay: 'config' must be a dict with 'heads', got"),
        ({"config": np.array("{'heads': 0}")}, r"replay: 'heads' of config must be an int of at least 1, got 0"),
        ({"homo.state.W_edge.bias": np.zeros(7)}, r"replay: homo\.state\.W_edge\.bias must be of shape .* got \(7,\)"),
        ({"hetero.state.W_logit.bias": np.zeros(())}, r"replay: hetero\.state\.W_logit\.\w+ must be of shape"),
    ],
)
def test_replay_names_what_a_case_has_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        released.replay(golden("dmd_equal_width") | change)


def test_replay_leaves_out_what_the_published_program_does_not_compute():
    case = golden("dmd_equal_width") | {"out.nothing": np.zeros(3)}
    assert "out.nothing" not in released.replay(case)


def test_edges_are_listed_by_student_in_the_published_order():
    assert [GRAPH.edges[position] for position in PUBLISHED_ORDER] == list(PUBLISHED_EDGES)
    assert [target for _, target in PUBLISHED_EDGES] == sorted([*NAMES, *NAMES], key=NAMES.index)


def test_published_priors_favour_what_language_teaches():
    config = ReleasedObjective()
    for prior, favoured in ((config.homogeneous_prior, 2), (config.heterogeneous_prior, 3)):
        assert sum(prior) == pytest.approx(1)
        heavy = [edge for edge, weight in zip(GRAPH.edges, prior, strict=True) if weight > 1 / 6]
        assert len(heavy) == favoured
        assert {("language", "vision"), ("language", "acoustic")} <= set(heavy)
