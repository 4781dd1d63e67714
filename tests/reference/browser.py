"""A real browser without a window, where one is installed: what a page is like once it has been loaded."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
    "--dump-dom",
]


def asked(page: Path, script: str, folder: Path) -> tuple[dict, list[str]]:
    """What `script`, the body of a function, returns once the page is there; and what the console complained of."""
    told = f"<script>document.body.dataset.told = JSON.stringify((() => {{{script}}})())</script>"
    copy = folder / "asked.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{told}</body>"), encoding="utf-8")
    flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([BROWSER, *flags, copy.as_uri()], capture_output=True, text=True, timeout=120)
    answer = re.search(r'data-told="([^"]*)"', done.stdout)
    assert answer, done.stderr[-1000:]
    return json.loads(unescape(answer[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]
