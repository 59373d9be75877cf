"""The pages in a real browser: they draw, play, answer the pointer, ask nothing of a network, and fit every screen."""

import re
from contextlib import contextmanager

import pytest

pytest.importorskip("playwright")

from dmd.page import read_group, write_comparison
from playwright.sync_api import expect

from tests.browser import opened

WIDTHS = "place => place.data.filter(trace => trace.line && trace.mode === 'lines').map(trace => trace.line.width)"


@pytest.fixture(scope="module")
def paths(reported, tmp_path_factory):
    compared = tmp_path_factory.mktemp("compared") / "compare.html"
    groups = [read_group(reported[name], name)[0] for name in ("seeds", "classes")]
    pages = {name: reported[name] / "report.html" for name in ("regression", "classes")}
    return pages | {"compare": write_comparison(compared, groups)}


@pytest.fixture(scope="module")
def page(browser, paths):
    """The page of a run, for what a reader does with it."""
    with looked_at(browser, paths["regression"]) as opened_page:
        yield opened_page


@contextmanager
def looked_at(browser, path, **options):
    """The page with all its charts drawn; fails on complaints and requests."""
    with opened(browser, path.as_uri(), **options) as (page, seen):
        page.wait_for_selector("body.ready", timeout=60_000, state="attached")
        yield page
        assert seen.complaints == []
        assert seen.requests == []


def brightness(page, selector):
    """Mean of red, green and blue of an element's background."""
    color = page.evaluate(f"getComputedStyle(document.querySelector({selector!r})).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3


@pytest.mark.parametrize("which", ["classes", "compare"])
def test_every_chart_is_drawn_and_a_phone_shows_the_whole_width(browser, paths, which):
    with looked_at(browser, paths[which], width=390, height=800) as page:
        charts = page.locator(".chart")
        assert page.locator(".chart.drawn .main-svg").count() >= charts.count() > 2
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        widths = page.evaluate("[...document.querySelectorAll('.main-svg')].map(drawn => drawn.clientWidth)")
        assert max(widths) <= 390
        assert not page.locator(".old").is_visible()
        assert page.title()
        buttons = page.evaluate(
            "[...new Set([...document.querySelectorAll('.modebar-btn')].map(x => x.dataset.title))]"
        )
        assert buttons == ["Download plot as a PNG", "Reset axes"]  # none that uploads


def test_slider_and_play_change_the_widths_of_the_edges(page):
    chart, slider, button = (
        page.locator(".chart.links").first,
        page.locator("input[type=range]"),
        page.locator(".player button"),
    )

    def drawn():
        """Widths as they stand in the picture."""
        return chart.evaluate(
            "place => [...place.querySelectorAll('.js-line')].map(line => getComputedStyle(line).strokeWidth)"
        )

    seen = []
    slider.focus()
    for key, epoch in (("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3)):
        page.keyboard.press(key)
        expect(page.locator("output")).to_contain_text(f"epoch {epoch}")
        seen.append((chart.evaluate(WIDTHS), drawn()))
    assert len({str(widths) for widths, _ in seen}) == 3
    assert len({str(widths) for _, widths in seen}) == 3
    for widths, lines in seen:
        assert [f"{width:g}px" for width in widths] == lines
    button.click()  # from the end: it begins anew
    assert button.text_content() == "Pause"
    expect(button).to_have_text("Play", timeout=30_000)
    expect(page.locator("output")).to_contain_text("epoch 3")
    assert chart.evaluate(WIDTHS) == seen[-1][0]
    matrix = page.locator(".chart.matrix").first
    assert matrix.evaluate("place => place.data[0].z.flat().filter(x => x !== null).length") == 6


def test_pointing_at_a_sample_says_which_it_is(page):
    chart = page.locator("#features .chart").first
    chart.scroll_into_view_if_needed()
    chart.locator(".scatterlayer .point").first.hover(force=True)
    label = page.locator(".hoverlayer .hovertext").first
    label.wait_for()
    text = label.text_content()
    assert re.search(
        r"(alert\(1\)|onerror|\{\{ 7|<b>bold</b>).* \d+truth -?\d\.\d\dprediction -?\d\.\d\dfeature of ", text
    )


def test_light_and_dark(browser, paths):
    with looked_at(browser, paths["classes"], scheme="light") as page:
        assert brightness(page, "body") > 200
        ink = page.locator(".chart .xtick text").first.evaluate("text => getComputedStyle(text).fill")
        page.emulate_media(color_scheme="dark")  # while it is open
        expect(page.locator(".chart .xtick text").first).not_to_have_css("fill", ink)
        assert brightness(page, "body") < 60
        assert brightness(page, "section") < 60
        later = page.locator(".chart .xtick text").first.evaluate("text => getComputedStyle(text).fill")
        assert min(map(int, re.findall(r"\d+", later)[:3])) > 180


def test_no_other_script_runs(browser, paths, tmp_path):
    page = tmp_path / "page.html"
    source = paths["classes"].read_text(encoding="utf-8")
    page.write_text(source.replace("<main>", "<main><script>document.title = 'taken over'</script>"), encoding="utf-8")
    with opened(browser, page.as_uri()) as (opened_page, seen):
        assert opened_page.title() != "taken over"
        assert "Content Security Policy" in seen.complaints[0]
