"""Takes the pictures of the pages of `detect serve` that the documentation shows.

detect train --data toy --model yolo_n --imgsz 96 --epochs 30 --out runs/train
python tools/page_pictures.py --run runs/train
It needs Chromium. The page for images shows images of the toy set that the run has not seen.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.data.images import decode_image, scaled
from detect.data.toy import build
from detect.errors import UserError, in_one_line
from tools.drawing import save

WIDTH, HEIGHT, SHOWN = 1200, 760, 900  # of the window, and of the picture, in pixels


def take(flags: list[str], path: Path, files: list[str]) -> None:
    """Serve, open the page, give it files, and write its picture."""
    command = [sys.executable, "-m", "detect", "serve", *flags, "--port", "0"]
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as play:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        if not found:
            raise UserError("detect serve did not start")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(found[0])
        page.wait_for_selector("html[data-ready]", state="attached")
        _wait(page, files)
        shot = decode_image(page.screenshot(), "the screenshot")
        browser.close()
        server.send_signal(signal.SIGINT)
    save(path, scaled(shot, SHOWN / WIDTH))


def _wait(page: Page, files: list[str]) -> None:
    """Wait until all files are processed, or, where there are none, until the images of the run are drawn."""
    if not files:
        page.wait_for_selector(".gallery img", timeout=300_000)
        return
    page.set_input_files("#file", files)
    page.get_by_text("files processed.").wait_for(timeout=300_000)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)  # until the image is decoded


@in_one_line
def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a run on the toy set")
    parser.add_argument("--out", type=Path, default=Path("docs/assets"), help="default: docs/assets")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        images = build(Path(folder) / "digits", train=1, val=6) / "val"
        files = [str(path) for path in sorted(images.iterdir())]
        take(["--weights", str(given.run / "best.safetensors")], given.out / "serve.webp", files)
    take(["--run", str(given.run)], given.out / "watch.webp", [])


if __name__ == "__main__":
    main()
