"""Draws the figures of docs/explanations again: `python tools/figures.py [NAME …]`, by default all, in two minutes.

A page is a file of tools/explanations with one function, `draw() -> {name of a figure: figure}`; the figures are
docs/assets/NAME.webp. They are made of the toy set and one photograph, with fixed seeds and without weights.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from detect.errors import in_one_line  # noqa: E402
from tools.drawing import draw_all  # noqa: E402

ASSETS = ROOT / "docs" / "assets"


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw figures of pages. Exit status: 0, or 2 after one line on stderr."""
    draw_all("tools.explanations", ASSETS, __doc__ or "", arguments)


if __name__ == "__main__":
    sys.exit(main())
