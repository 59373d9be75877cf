"""The browser that looks at the pages notices what it should."""

from tests.browser import opened


def test_complaints_and_requests_are_seen(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<title>t</title><script>console.error('broken')</script><img src='http://localhost:9/picture.png'>"
    )
    with opened(browser, page.as_uri()) as (opened_page, seen):
        opened_page.wait_for_load_state()
        assert opened_page.title() == "t"
        assert "broken" in seen.complaints
        assert seen.requests == ["http://localhost:9/picture.png"]


def test_an_honest_page_has_none(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<title>t</title><p>nothing")
    with opened(browser, page.as_uri(), scheme="dark") as (opened_page, seen):
        assert opened_page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert not seen.complaints
        assert not seen.requests
