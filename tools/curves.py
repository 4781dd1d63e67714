"""Plots training curves of several runs side by side, and prints them as a Markdown table.

    python tools/curves.py runs/plain runs/residual --of classes top1 --out curves.png

The plot has a panel for each number of metrics.jsonl in --of, and a line for each run from first to last epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.data.image_writer import save_image
from detect.errors import UserError, in_one_line, unknown
from detect.inference.text_rendering import render

COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14))
WIDTH, HEIGHT, EDGE, LETTER = 440, 300, 64, 13  # of a panel, its margin and its letters, in pixels

Curves = Mapping[str, Sequence[float]]  # the name of a run -> its numbers by epoch


def curves(runs: Sequence[Path], number: str) -> dict[str, list[float]]:
    """Read `number` from metrics.jsonl of each run, epoch by epoch.

    Raises:
        UserError: If there is no such file or number.
    """
    numbers = {}
    for run in runs:
        try:
            rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise UserError(f"{run / 'metrics.jsonl'} cannot be read: {error}; name the folder of a run") from error
        if not rows or number not in rows[0]:
            raise unknown(f"number of {run / 'metrics.jsonl'}", number, rows[0] if rows else ())
        numbers[run.name] = [float(row[number]) for row in rows]
    return numbers


def panel(title: str, lines: Curves) -> np.ndarray:
    """Draw one number of all runs, (HEIGHT, WIDTH, 3) uint8 RGB."""
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    values = [v for line in lines.values() for v in line]
    low, high = min(values), max(values)
    last = max(2, *(len(line) for line in lines.values())) - 1
    cv2.rectangle(canvas, (EDGE, EDGE), (WIDTH - EDGE, HEIGHT - EDGE), (160, 160, 160))
    for colour, line in zip(COLOURS, lines.values(), strict=False):
        x = EDGE + np.arange(len(line)) / last * (WIDTH - 2 * EDGE)
        y = HEIGHT - EDGE - (np.array(line) - low) / max(high - low, 1e-9) * (HEIGHT - 2 * EDGE)
        cv2.polylines(canvas, [np.rint(np.stack([x, y], 1)).astype(np.int32)], False, colour, 2, cv2.LINE_AA)
    write(canvas, title, (EDGE, 6))
    left = EDGE
    for colour, name in zip(COLOURS, lines, strict=False):
        left += write(canvas, name, (left, 28), colour) + 16
    write(canvas, f"{high:.3g}", (4, EDGE - 8))
    write(canvas, f"{low:.3g}", (4, HEIGHT - EDGE - 8))
    write(canvas, "epoch 1", (EDGE - 8, HEIGHT - EDGE + 6))
    write(canvas, str(last + 1), (WIDTH - EDGE - 8, HEIGHT - EDGE + 6))
    return canvas


def write(canvas: np.ndarray, text: str, corner: tuple[int, int], colour: Sequence[int] = (0, 0, 0)) -> int:
    """Write `text` with its top left corner at `corner`, cut off at the border of the canvas; returns its width."""
    x, y = corner
    place = canvas[y:, x:]
    cover = render(text, LETTER)[: place.shape[0], : place.shape[1], None] / 255
    part = place[: cover.shape[0], : cover.shape[1]]
    part[:] = np.rint(part * (1 - cover) + np.array(colour) * cover)
    return cover.shape[1]


def table(numbers: Mapping[str, Curves]) -> str:
    """A row for each epoch, a column for each number of each run; a dash after the end of a run."""
    heads = [f"{run} {number}" for number, lines in numbers.items() for run in lines]
    columns = [line for lines in numbers.values() for line in lines.values()]
    rows = [["epoch", *heads], ["---:"] * (len(heads) + 1)]
    for epoch in range(max(map(len, columns))):
        cells = [f"{column[epoch]:.3f}" if epoch < len(column) else "-" for column in columns]
        rows.append([str(epoch + 1), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the plot and print the table. Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help=f"folders of runs, at most {len(COLOURS)}")
    parser.add_argument("--of", nargs="+", default=["classes"], help="numbers of metrics.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="image file of the plot")
    options = parser.parse_args(arguments)
    if len(options.runs) > len(COLOURS) or len({run.name for run in options.runs}) < len(options.runs):
        raise UserError(f"{len(options.runs)} runs: name at most {len(COLOURS)}, in folders of different names")
    numbers = {number: curves(options.runs, number) for number in options.of}
    plot = np.hstack([panel(number, lines) for number, lines in numbers.items()])
    save_image(options.out, plot)
    print(table(numbers))


if __name__ == "__main__":
    sys.exit(main())
