"""Colours of pictures stay apart for readers who see two of the three primaries, and for those without colours.

Sight is simulated by the matrices of Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of
Color Vision Deficiency, IEEE TVCG 15(6), 2009, severity 1.0, on linear RGB; distances are those of CIE L*a*b* (1976),
of which about 2.3 can just be seen.
"""

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import colormaps
from matplotlib.colors import to_rgb

from gdkit._plotting import SCALE
from gdkit.plot import COLORS, LINE_STYLES, MARKERS

SIGHT = {
    "all primaries": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = XYZ.sum(axis=1)  # D65
EVERY_SIGHT = pytest.mark.parametrize("sight", SIGHT)


def linear(colors):
    rgb = np.array([to_rgb(color) for color in colors])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(colors, sight="all primaries"):
    """Lightness, red-green and blue-yellow of colours as they are seen."""
    seen = (linear(colors) @ np.transpose(SIGHT[sight])).clip(0, 1)
    x = seen @ XYZ.T / WHITE
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def closest(colors, sight):
    places = lab(colors, sight)
    return min((np.linalg.norm(places[i] - places[j]), colors[i], colors[j]) for i, j in pairs(colors))


def pairs(colors):
    return combinations(range(len(colors)), 2)


def test_lab_of_known_colours():
    np.testing.assert_allclose(lab(["white", "red"]), [[100, 0, 0], [53.24, 80.09, 67.20]], atol=0.02)


@EVERY_SIGHT
def test_any_two_colours_stay_apart(sight):
    distance, *both = closest(COLORS, sight)
    assert distance > 15, both


def test_the_measure_finds_colours_that_do_not():
    assert closest(["#E69F00", "#A89F00"], "protanopia")[0] < 5  # orange and olive
    assert closest(["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728"], "deuteranopia")[0] < 8  # matplotlib's own


def test_colours_show_on_white():
    contrast = 1.05 / (linear(COLORS) @ XYZ[1] + 0.05)
    assert contrast.min() > 2.2
    assert (contrast >= 3).sum() >= 6  # what WCAG asks of graphics


@EVERY_SIGHT
def test_the_scale_rises_in_lightness_by_even_steps(sight):
    colors = [color[:3] for color in colormaps[SCALE](np.linspace(0, 1, 33))]
    places = lab(colors, sight)
    assert (np.diff(places[:, 0]) > 0).all()
    assert places[-1, 0] - places[0, 0] > 70
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    if sight == "tritanopia":  # its brightest yellow is brighter than a screen
        steps = steps[:-1]
    assert steps.max() < 5 * steps.min()


def test_styles_and_markers_say_it_without_colours():
    assert len(set(map(str, LINE_STYLES))) == len(set(MARKERS)) == len(COLORS) == 8
