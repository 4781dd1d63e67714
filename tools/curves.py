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

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.data.image_writer import save_image
from detect.data.images import decode_image
from detect.errors import UserError, in_one_line, unknown
from detect.report.charts import line_spec, png

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


def plot(numbers: Mapping[str, Curves]) -> np.ndarray:
    """Draw each number of all runs, side by side, (H, W, 3) uint8 RGB."""
    specs = {}
    for number, lines in numbers.items():
        points = {name: list(enumerate(line, 1)) for name, line in lines.items()}
        specs[number] = line_spec(points, "epoch", number)
    return decode_image(png(specs), "the plot")


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
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--of", nargs="+", default=["classes"], help="numbers of metrics.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="image file of the plot")
    options = parser.parse_args(arguments)
    if len({run.name for run in options.runs}) < len(options.runs):
        raise UserError(f"{len(options.runs)} runs: name runs in folders of different names")
    numbers = {number: curves(options.runs, number) for number in options.of}
    save_image(options.out, plot(numbers))
    print(table(numbers))


if __name__ == "__main__":
    sys.exit(main())
