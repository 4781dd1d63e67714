"""Draws the pictures of docs/tour again: `python tools/tour.py [NAME …]`, by default all of them, in minutes on a CPU.

A topic is a file of tools/topics with one function, `draw() -> {name of a picture: picture}`; its page is
docs/tour/TOPIC.md, its pictures docs/tour/NAME.webp. A picture is (H, W, 3) uint8 RGB, or a list of them for a film.
They are made of scikit-learn's two photographs and the toy set, with fixed seeds and no weights from elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from detect.errors import in_one_line  # noqa: E402
from tools.drawing import draw_all  # noqa: E402

PAGES = ROOT / "docs" / "tour"
TOPICS = tuple(sorted(path.stem for path in (Path(__file__).parent / "topics").glob("*.py")))


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw topics. Exit status: 0, or 2 after one line on stderr."""
    draw_all("tools.topics", PAGES, __doc__ or "", arguments)


if __name__ == "__main__":
    sys.exit(main())
