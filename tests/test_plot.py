"""The pictures show every edge, node and label, need no display, and refuse what does not fit."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from gdkit.graph import DistillationGraph

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from gdkit._plotting import is_dark  # noqa: E402
from gdkit.plot import edge_curves, edge_heatmap, embedding_map  # noqa: E402

GRAPH = DistillationGraph.complete(["language", "vision", "acoustic"])
STAR = DistillationGraph.star("language", ["vision", "acoustic"])


def texts(artists):
    return [artist.get_text() for artist in artists]


def draw(axes):
    """Really draw: layout and colours are computed only then."""
    axes.figure.savefig(io.BytesIO())
    return axes


def test_heatmap_rows_teach_columns():
    axes = draw(edge_heatmap(GRAPH, torch.arange(6) / 10, title="edges"))
    assert (axes.get_ylabel(), axes.get_xlabel(), axes.get_title()) == ("teacher", "student", "edges")
    assert texts(axes.get_yticklabels()) == texts(axes.get_xticklabels()) == list(GRAPH.names)
    cells = {(round(y), round(x)): text.get_text() for text in axes.texts for x, y in [text.get_position()]}
    assert cells == {
        (0, 1): "0.000",
        (0, 2): "0.100",
        (1, 0): "0.200",
        (1, 2): "0.300",
        (2, 0): "0.400",
        (2, 1): "0.500",
    }


def test_heatmap_hatches_cells_without_an_edge():
    axes = draw(edge_heatmap(STAR, [0.25, 0.75]))
    hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in axes.patches if p.get_hatch()}
    assert hatched == {(row, column) for row in range(3) for column in range(3)} - {(0, 1), (0, 2)}
    assert len(axes.texts) == 2


def test_heatmap_text_contrasts_with_its_cell():
    graph = DistillationGraph.complete("abcdef")
    axes = draw(edge_heatmap(graph, np.linspace(0, 1, graph.num_edges)))
    image = axes.images[0]
    for text in axes.texts:
        column, row = map(round, text.get_position())
        shade = np.array(image.to_rgba(image.get_array()))[row, column, :3]
        ink = np.array(matplotlib.colors.to_rgb(text.get_color()))
        luminance = [
            np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
            for c in (shade, ink)
        ]
        assert (max(luminance) + 0.05) / (min(luminance) + 0.05) > 4.5, (
            text.get_text()
        )  # WCAG's contrast for plain text


def test_dark_and_bright():
    assert is_dark(np.array([[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])).tolist() == [True, False, False]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [float("nan"), 1.0], [float("nan")] * 2, [-1.0, 2.0]])
def test_heatmap_draws_any_values(weights):
    assert len(draw(edge_heatmap(STAR, weights)).texts) == 2


def test_heatmaps_share_a_scale_on_request():
    assert edge_heatmap(STAR, [0.1, 0.2], vmax=0.5).images[0].get_clim() == (0, 0.5)
    assert edge_heatmap(STAR, [0.1, 0.2]).images[0].get_clim() == (0, 0.2)


def test_curves_label_every_edge():
    history = torch.rand(5, 6, dtype=torch.bfloat16, requires_grad=True)
    axes = draw(edge_curves(GRAPH, history))
    lines = axes.lines
    assert [line.get_label() for line in lines] == [f"{source} -> {target}" for source, target in GRAPH.edges] + [
        "mean"
    ]
    for edge in range(6):
        np.testing.assert_allclose(lines[edge].get_ydata(), history[:, edge].detach().float())
        np.testing.assert_array_equal(lines[edge].get_xdata(), [1, 2, 3, 4, 5])
    assert lines[6].get_ydata()[0] == pytest.approx(history.float().mean().item())
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines[:6]}) >= 5
    assert texts(axes.get_legend().get_texts())[0] == "language -> vision"


def test_curves_options():
    axes = draw(edge_curves(STAR, [torch.tensor([0.4, 0.6])], epochs=[7], mean=False, title="one epoch"))
    assert [line.get_xdata().tolist() for line in axes.lines] == [[7], [7]]
    assert axes.lines[0].get_marker() == "o"  # one epoch is a point; a line would not show
    draw(edge_curves(DistillationGraph.complete("abcdef"), np.full((3, 30), 1 / 30)))
    assert len(draw(edge_curves(STAR, np.full((3, 2), np.nan))).lines) == 2


def embeddings(samples=12, dim=4, names=("language", "vision")):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(samples, dim, generator=generator) for name in names}


def points(axes):
    return np.concatenate([collection.get_offsets() for collection in axes.collections])


def test_map_of_classes():
    labels = torch.tensor([0, 1, 2, -100] * 3)
    axes = draw(embedding_map(embeddings(), labels, classes=["sad", "calm", "glad"], title="features"))
    assert texts(axes.get_legend().get_texts()) == ["language", "vision"]
    assert points(axes).shape == (24, 2)
    bar = axes.figure.axes[1]
    assert texts(bar.get_yticklabels()) == ["sad", "calm", "glad"]
    grey = np.array([200, 200, 200, 255]) / 255
    np.testing.assert_allclose(axes.collections[0].get_facecolors()[3], grey, atol=1e-3)


def test_map_of_real_labels_strings_and_many_classes():
    real = draw(embedding_map(embeddings(), np.array([np.nan, *np.linspace(-3, 3, 11)], dtype="float32")))
    assert real.collections[0].get_clim() == (-3, 3)
    words = draw(embedding_map(embeddings(), np.array(["up", "down", "left"] * 4)))
    assert texts(words.figure.axes[1].get_yticklabels()) == ["down", "left", "up"]
    many = draw(embedding_map(embeddings(54), torch.arange(54) % 27))
    assert len({tuple(color) for color in many.collections[0].get_facecolors().tolist()}) == 27


def test_map_is_reproducible():
    labels = torch.zeros(12)
    first, again = (points(embedding_map(embeddings(), labels, seed=3, max_samples=8)) for _ in range(2))
    assert first.shape == (16, 2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, points(embedding_map(embeddings(), labels, seed=4, max_samples=8)))


@pytest.mark.parametrize(("samples", "dim"), [(1, 4), (2, 1), (2, 8), (3, 1)])
def test_map_of_few_points(samples, dim):
    assert np.isfinite(points(draw(embedding_map(embeddings(samples, dim), torch.arange(samples))))).all()


def test_map_leaves_absent_nodes_out_and_draws_equal_rows():
    features = embeddings()
    features["vision"][:5] = float("nan")
    assert len(points(embedding_map(features, torch.zeros(12)))) == 19
    same = {name: torch.ones(6, 3) for name in "ab"}
    assert np.isfinite(points(draw(embedding_map(same, torch.full((6,), float("nan")), legend=False)))).all()


def test_given_axes_are_used():
    from matplotlib.figure import Figure

    figure = Figure()
    first, second, third = figure.subplots(1, 3)
    assert edge_heatmap(GRAPH, torch.zeros(6), ax=first) is first
    assert edge_curves(GRAPH, torch.zeros(2, 6), ax=second) is second
    assert embedding_map(embeddings(), torch.zeros(12), ax=third) is third


def test_no_display_no_pyplot_no_settings(tmp_path):
    """Import costs neither matplotlib nor scikit-learn; drawing touches neither pyplot nor the user's settings."""
    program = """
import sys, torch
import gdkit.plot
assert "matplotlib" not in sys.modules and "sklearn" not in sys.modules
from gdkit.graph import DistillationGraph
import matplotlib
settings = dict(dict.items(matplotlib.rcParams))  # plain item access would choose a backend
graph = DistillationGraph.complete("ab")
gdkit.plot.edge_heatmap(graph, torch.zeros(2)).figure.savefig(sys.argv[1] + "/edges.png")
gdkit.plot.edge_curves(graph, torch.zeros(3, 2))
gdkit.plot.embedding_map({"a": torch.eye(9), "b": torch.eye(9)}, torch.arange(9))
assert "matplotlib.pyplot" not in sys.modules
assert settings == dict(dict.items(matplotlib.rcParams))
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "DISPLAY")}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)
    assert (tmp_path / "edges.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: edge_heatmap("abc", [1]), TypeError, "edge_heatmap: graph must be a DistillationGraph, got str"),
        (lambda: edge_heatmap(GRAPH, [1, 2]), ValueError, r"edge_heatmap: weights must have shape \(6,\), got \(2,\)"),
        (lambda: edge_heatmap(GRAPH, torch.ones(4, 6)), ValueError, r"got \(4, 6\); average over the batch first"),
        (lambda: edge_heatmap(GRAPH, "no"), TypeError, "weights must be a tensor or array of real numbers, got str"),
        (lambda: edge_heatmap(GRAPH, torch.ones(6), ax=3), TypeError, "ax must be a matplotlib Axes, got int"),
        (lambda: edge_curves(GRAPH, torch.ones(6)), ValueError, r"history must have shape \(epoch, 6\), got \(6,\)"),
        (lambda: edge_curves(GRAPH, torch.ones(0, 6)), ValueError, "history must hold at least one number"),
        (lambda: edge_curves(GRAPH, [[1, 2], [1]]), ValueError, "history must hold rows of one length"),
        (lambda: edge_curves(GRAPH, torch.ones(2, 6), epochs=[1]), ValueError, r"epochs must have shape \(2,\)"),
        (lambda: embedding_map([1], [1]), TypeError, "features must be a mapping from node name to array, got list"),
        (lambda: embedding_map({}, []), ValueError, "features must hold at least 1 node, got none"),
        (lambda: embedding_map({"a": torch.ones(3)}, [1] * 3), ValueError, r"\['a'\] must have shape \(batch, dim\)"),
        (
            lambda: embedding_map({"a": torch.ones(3, 2), "b": torch.ones(3, 4)}, [1] * 3),
            ValueError,
            r"features must have one shape for all nodes, got \(3, 2\) for 'a' and \(3, 4\) for 'b'",
        ),
        (lambda: embedding_map(embeddings(), [1]), ValueError, r"labels must have shape \(12,\) as features"),
        (lambda: embedding_map(embeddings(), [2] * 12, classes=["x"]), ValueError, r"labels must lie in 0\.\.0"),
        (lambda: embedding_map(embeddings(), [1j] * 12), TypeError, "labels must be"),
        (lambda: embedding_map(embeddings(), [0] * 12, max_samples=0), ValueError, "max_samples must be above 0"),
        (lambda: embedding_map({"a": torch.full((3, 2), torch.nan)}, [1] * 3), ValueError, "2 finite rows, got 0"),
    ],
)
def test_errors_name_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()
