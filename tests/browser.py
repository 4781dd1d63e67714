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

# Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, AA), each with its contrast.
FAINT = """() => {
  const parts = text => [...text.matchAll(/[\\d.]+/g)].map(found => Number(found[0]));
  const light = color => color.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, below) => below.map((v, i) => v + (top[i] - v) * (top[3] ?? 1));
  const behind = node => {
    if (!node) return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
    return over(parts(getComputedStyle(node).backgroundColor), behind(node.parentElement));
  };
  const faint = [];
  for (const node of document.querySelectorAll("h1, h2, h3, p, td, th, li, a, button, label, figcaption, pre")) {
    const style = getComputedStyle(node), back = behind(node);
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility({opacityProperty: true}) || parseFloat(style.fontSize) < 1) continue;
    const [a, b] = [light(over(parts(style.color), back)), light(back)].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push([node.outerHTML.slice(0, 80), (a + 0.05) / (b + 0.05)]);
  }
  return faint.slice(0, 5);
}"""


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


def check_look(page):
    """Fail where the page is too wide at one of `WIDTHS`, or its text hard to read in light or dark."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(50)
        check_width(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        faint = page.evaluate(FAINT)
        assert not faint, (scheme, faint)


def _elsewhere(url, own):
    """Whether a request goes to another host than the page's own."""
    asked, page = urlsplit(url), urlsplit(own)
    return asked.scheme not in LOCAL and asked.netloc != page.netloc
