"""A real browser for tests of pages: the system's Chromium, driven by Playwright; one for the whole session.

A test file imports `page_at` and `browser` from here, and asks `page_at` for a page:

    def test_the_page(page_at, tmp_path):
        page = page_at(tmp_path / "out.html", 400)
        assert page.locator("h1").inner_text() == "..."
"""

import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WIDTHS = (400, 1000, 1600)  # CSS pixels: a phone, a tablet or small window, a wide screen
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
LOCAL = ("file", "data", "blob", "about")
OVERFLOW = """() => [...document.querySelectorAll("body *")].filter(node => {
  for (let at = node.parentElement; at; at = at.parentElement)
    if (getComputedStyle(at).overflowX !== "visible") return false;
  return node.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).slice(0, 5).map(node => node.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="session")
def browser():
    """The browser; a test that needs it is skipped, with the reason, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page_at(browser):
    """`page_at(path_or_url, width=1000, dark=False)` opens a page and returns it, a Playwright `Page`.

    The test fails, at once or at its end, when the console reports an error, a script fails, the page asks another host
    for anything, or it is wider than the window.
    """
    contexts, wrong = [], []

    def check():
        assert not wrong, wrong

    def opened(where, width=1000, dark=False):
        url = where.resolve().as_uri() if isinstance(where, Path) else where
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", service_workers="block"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if _elsewhere(asked.url, url) else None)
        page.goto(url, wait_until="load")
        page.wait_for_selector("html[data-ready], html:not(:has(.plot))", state="attached")
        check()
        check_width(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    check()


def until(page, expression):
    """Wait until JavaScript is true of the page, also where its policy forbids Playwright's way; the value."""
    for _ in range(600):
        if value := page.evaluate(expression):
            return value
        time.sleep(0.05)
    raise AssertionError(f"{expression}: {page.inner_text('body')}")


def check_width(page):
    """Fail where the page is wider than its window, naming the parts that stick out."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{wide} pixels too wide: {page.evaluate(OVERFLOW)}"


def _elsewhere(url, own):
    """Whether a request goes to another host than the page's own."""
    asked, page = urlsplit(url), urlsplit(own)
    return asked.scheme not in LOCAL and asked.netloc != page.netloc
