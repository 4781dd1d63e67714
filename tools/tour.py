"""Draws the pictures of docs/tour again: `python tools/tour.py [NAME …]`, by default all of them, in minutes on a CPU.

A topic is a file of tools/topics with one function, `draw() -> {name of a picture: picture}`; its page is
docs/tour/TOPIC.md, its pictures docs/tour/NAME.webp. A picture is (H, W, 3) uint8 RGB, or a list of them for a film.
They are made of scikit-learn's two photographs and the toy set, with fixed seeds and no weights from elsewhere.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from detect.errors import in_one_line, unknown  # noqa: E402
from tools.drawing import save  # noqa: E402

PAGES = ROOT / "docs" / "tour"
TOPICS = tuple(sorted(path.stem for path in (Path(__file__).parent / "topics").glob("*.py")))


def draw(topic: str, folder: Path = PAGES) -> list[Path]:
    """Draw the pictures of one topic into `folder`.

    Args:
        topic: one of `TOPICS`.
        folder: where to write them.

    Returns:
        The files written.

    Raises:
        UserError: there is no such topic; the nearest one is suggested.
    """
    if topic not in TOPICS:
        raise unknown("topic", topic, TOPICS)
    torch.manual_seed(0)
    paths = []
    for name, drawn in importlib.import_module(f"tools.topics.{topic}").draw().items():
        paths.append(folder / f"{name}.webp")
        save(paths[-1], drawn)
    return paths


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw topics. Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topics", nargs="*", metavar="NAME", help=f"default: all of {', '.join(TOPICS)}")
    parser.add_argument("--out", type=Path, default=PAGES, help="folder of the pictures; default: docs/tour")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the same bits whatever the number of cores
    for topic in options.topics or TOPICS:
        start = time.perf_counter()
        for path in draw(topic, options.out):
            print(f"{topic}: {path}, {path.stat().st_size // 1024} KB, {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
