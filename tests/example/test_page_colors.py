"""The colours of a run's page, by light and in the dark, stay apart for every reader."""

import re
from pathlib import Path

import pytest
from dmd import page

from gdkit.plot import COLORS
from tests.test_palette import EVERY_SIGHT, XYZ, closest, linear

SCRIPT = (Path(page.__file__).parent / "page.js").read_text()


def palette(scheme):
    (block,) = re.findall(rf"^  {scheme}: {{(.*?)^  }}", SCRIPT, re.MULTILINE | re.DOTALL)
    return [*re.findall(r'"@\d": "(#\w{6})"', block)], *re.findall(r'"@surface": "(#\w{6})"', block)


def test_by_light_they_are_those_of_the_pictures():
    assert [color.lower() for color in COLORS] == palette("light")[0]


@EVERY_SIGHT
def test_in_the_dark_any_two_stay_apart(sight):
    colors, _ = palette("dark")
    assert len(colors) == len(COLORS)
    distance, *both = closest(colors, sight)
    assert distance > 12, both


@pytest.mark.parametrize(("scheme", "least"), [("light", 2.2), ("dark", 3)])
def test_they_show_on_their_ground(scheme, least):
    colors, surface = palette(scheme)
    brightness = linear([*colors, surface]) @ XYZ[1] + 0.05
    low, high = brightness[:-1].clip(max=brightness[-1]), brightness[:-1].clip(min=brightness[-1])
    assert (high / low).min() > least
