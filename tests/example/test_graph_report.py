"""What is said of a learned graph: entropy, teachers, and when not to believe it."""

import math

import pytest
from dmd.graph_report import graph_report

EDGES = (("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b"))
LOSSES = {"a": 0.2, "b": 0.5, "c": 0.9}


def test_equal_weights_have_the_largest_entropy_and_no_warning():
    report = graph_report([1 / 6] * 6, EDGES, LOSSES, "graph")
    assert report["entropy"] == pytest.approx(1)
    assert report["out_weight"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert report["warnings"] == []
    assert report["valid_loss"] == LOSSES


def test_entropy_by_hand():
    report = graph_report([0.5, 0.25, 0.25, 0, 0, 0], EDGES, LOSSES, "graph")
    assert report["entropy"] == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(4)) / math.log(6))
    assert report["heaviest"] == ["a", "b"]
    assert report["share"] == 0.5


def test_one_edge_with_all_the_weight():
    report = graph_report([0.97, 0.01, 0.01, 0.01, 0, 0], EDGES, LOSSES, "graph")
    assert report["warnings"] == ["the graph has collapsed: a -> b has 97% of the weight of all edges"]


def test_one_edge_with_all_the_weight_into_its_target():
    report = graph_report([0.98, 0.5, 0.5, 0.5, 0.5, 0.02], EDGES, LOSSES, "target")
    assert report["warnings"] == ["the graph has collapsed: a -> b has 98% of the weight of the edges into b"]
    entropy = -(0.98 * math.log(0.98) + 0.02 * math.log(0.02)) / math.log(2)
    assert report["entropy"] == pytest.approx((2 + entropy) / 3)


def test_little_entropy_without_a_single_heavy_edge():
    edges = [(f"t{i}", "s") for i in range(20)]
    report = graph_report([0.5, 0.5, *[0.0] * 18], edges, {"s": 0.1}, "graph")
    assert report["warnings"] == ["the graph has nearly collapsed: its weights have 0.23 of the largest entropy"]


def test_the_worst_node_as_the_heaviest_teacher():
    report = graph_report([0.1, 0.1, 0.1, 0.1, 0.3, 0.3], EDGES, LOSSES, "graph")
    assert report["warnings"] == [
        "the heaviest teacher, c, is the worst on the validation split (loss 0.900; the best, a, has 0.200)"
    ]
    assert not graph_report([0.3, 0.3, 0.1, 0.1, 0.1, 0.1], EDGES, LOSSES, "graph")["warnings"]


def test_two_nodes_whose_edges_do_not_compete():
    report = graph_report([1.0, 1.0], [("a", "b"), ("b", "a")], {"a": 0.1, "b": 0.4}, "target")
    assert report["entropy"] == 1
    assert report["warnings"] == []
    assert "heaviest" not in report


def test_an_edge_that_no_sample_has():
    nan = float("nan")
    report = graph_report([0.6, nan, 0.4, nan, nan, nan], EDGES, LOSSES | {"c": nan}, "graph")
    assert report["entropy"] == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)) / math.log(2))
    assert report["out_weight"] == {"a": 0.6, "b": 0.4, "c": 0}
    assert graph_report([nan] * 6, EDGES, LOSSES, "graph")["entropy"] == 1
