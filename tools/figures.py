"""Draws the figures of docs/explanations again: `python tools/figures.py [NAME …]`, by default all, in two minutes.

A page is a file of tools/explanations with one function, `draw() -> {name of a figure: figure}`; the figures are
docs/assets/NAME.webp. They are made of the toy set and one photograph, with fixed seeds and without weights.
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

ASSETS = ROOT / "docs" / "assets"
FIGURES = tuple(sorted(path.stem for path in (Path(__file__).parent / "explanations").glob("*.py")))


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the figures of pages. Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="NAME", help=f"default: all of {', '.join(FIGURES)}")
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder of the figures; default: docs/assets")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the same bits whatever the number of cores
    for page in options.pages or FIGURES:
        if page not in FIGURES:
            raise unknown("page", page, FIGURES)
        start = time.perf_counter()
        torch.manual_seed(0)
        for name, figure in importlib.import_module(f"tools.explanations.{page}").draw().items():
            path = options.out / f"{name}.webp"
            save(path, figure)
            print(f"{page}: {path}, {path.stat().st_size // 1024} KB, {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
