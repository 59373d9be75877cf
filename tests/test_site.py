"""The built pages in a real browser: `make docs` first, or GDKIT_SITE=FOLDER; they skip where nothing is built."""

import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

SITE = Path(os.environ.get("GDKIT_SITE", Path(__file__).parents[1] / "docs" / "_build" / "html"))
pytestmark = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="make docs first")
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html") if "_modules" not in path.parts)
PHONE = {"width": 390, "height": 844}


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing of it."""

    def log_message(self, *_):
        """No line a request."""


@pytest.fixture(scope="module")
def address():
    """Where the folder is served: Chromium lets a page that was opened as a file read no other, as search does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def visited(browser, address, pages, **options):
    """Each page of the site in one window, with what it complained of and what it asked for elsewhere."""
    context = browser.new_context(**options)
    page, seen = context.new_page(), []
    page.on("console", lambda message: message.type in ("error", "warning") and seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("requestfailed", lambda request: seen.append(f"failed: {request.url}"))
    page.on("request", lambda request: request.url.startswith(address) or seen.append(f"asked for {request.url}"))
    try:
        for name in pages:
            page.goto(address + name)
            yield name, page, seen
            seen.clear()
    finally:
        context.close()


def luminance(page, element="body"):
    """From 0, black, to 255, white, of what is behind an element."""
    color = page.locator(element).first.evaluate("element => getComputedStyle(element).backgroundColor")
    red, green, blue = (float(part) for part in color[color.index("(") + 1 : -1].split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_page_on_a_phone(browser, address):
    wrong, equations = {}, {}
    for name, page, seen in visited(browser, address, PAGES, viewport=PHONE):
        pictures = page.locator("article img").evaluate_all("all => all.filter(x => !x.alt || !x.naturalWidth).length")
        equations[name] = page.locator("article math").evaluate_all("all => all.filter(x => x.clientHeight > 8).length")
        width = page.evaluate("document.documentElement.scrollWidth")
        headings = page.locator("h1").count()
        if seen or pictures or width > PHONE["width"] or headings != (name != "search.html"):
            wrong[name] = (list(seen), pictures, width, headings)
    assert not wrong  # no complaint, no picture missing or without a text, nothing that scrolls the page sideways
    assert equations["concepts.html"] > 30  # drawn, not just there
    assert equations["api.html"] > 10


def test_what_is_wide_scrolls_in_its_own_box(browser, address):
    for _, page, _ in visited(browser, address, ["results.html"], viewport=PHONE):
        box = page.locator("div.table-wrapper").first
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        assert box.evaluate("box => { box.scrollLeft = 100; return box.scrollLeft }") == 100


def test_number_of_an_equation_stands_beside_it(browser, address):
    for _, page, _ in visited(browser, address, ["api.html"], viewport=PHONE):
        block = page.locator("div.math:has(.eqno)").first
        equation, number = (block.locator(part).bounding_box() for part in (".equation", ".eqno"))
        assert equation["x"] + equation["width"] <= number["x"]
        assert number["x"] + number["width"] <= PHONE["width"]


def test_search_finds_gd_unit(browser, address):
    for _, page, seen in visited(browser, address, ["index.html"]):
        page.locator("input[name=q]").first.fill("GDUnit")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=GDUnit*")
        page.locator("#search-results li a").first.wait_for()
        found = page.locator("#search-results li a").evaluate_all("all => all.map(x => x.getAttribute('href'))")
        assert any("api.html#gdkit.GDUnit" in link for link in found)
        assert not seen


def test_light_and_dark(browser, address):
    for scheme, is_dark in (("light", False), ("dark", True)):
        for _, page, _ in visited(browser, address, ["concepts.html"], color_scheme=scheme):
            assert (luminance(page) < 60) == is_dark
    for _, page, _ in visited(browser, address, ["concepts.html"], color_scheme="light"):
        button = page.locator("button.theme-toggle:visible").first
        seen = [luminance(page)]
        for _ in range(2):  # from the system's to one, and to the other
            button.click()
            seen.append(luminance(page))
        assert min(seen) < 60
        assert max(seen) > 200


def test_every_group_is_in_the_menu(browser, address):
    for _, page, _ in visited(browser, address, ["index.html"]):
        captions = page.locator(".sidebar-tree .caption-text").all_text_contents()
        assert captions == ["Start", "Concepts", "Guides", "The DMD example", "Reference", "Project"]
        linked = page.locator(".sidebar-tree a").evaluate_all("all => all.map(x => x.getAttribute('href'))")
        assert {"quickstart.html", "guides/lightning.html", "api.html", "faq.html"} <= set(linked)
