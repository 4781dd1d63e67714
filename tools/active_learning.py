"""Measure whether `detect next` chooses images that are worth more than random ones.

python tools/active_learning.py --data D --weights W --out R --rounds 5 --budget 20 --seeds 3 --strategy random
python tools/active_learning.py --data D --weights W --out R --rounds 5 --budget 20 --seeds 3 --strategy default
python tools/active_learning.py --out R

The training images of D are taken for unlabelled. Round 1 labels as many random ones as the budget allows, the same for
all strategies of a seed; every later round adds those that the strategy chooses with the model of the round before. A
strategy is random, default (that of `detect next`), or criteria with weights, such as uncertainty=1,diversity=0.5.
Every round fine-tunes W anew, for the same number of steps, and is evaluated on images that are never chosen (--split).
Each round has a folder with result.json, written when it is done: a run that was stopped continues where it was. The
last command prints the table of all that R holds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.cli.parser import parse
from detect.data.annotations import Annotations
from detect.data.sources.formats import load_data
from detect.errors import UserError, in_one_line
from detect.training.run_record import holds_run
from detect.training.setup import train
from detect.utils.atomic_io import replace_text

RESULT = "result.json"


class Study:
    """The rounds of one dataset.

    Args:
        options: those of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, Path(options.out)
        self.pool = load_data(options.data, "train")
        self.test = load_data(options.data, options.split)
        if len(self.pool) < options.rounds * options.budget:
            raise UserError(f"{options.data}: {len(self.pool)} training images are fewer than the rounds choose")

    def run(self, seed: int, strategy: str) -> None:
        """All rounds of a strategy; those that are done are read."""
        order = np.random.default_rng(seed).permutation(len(self.pool)).tolist()
        folder, chosen = self.out / f"seed-{seed}", order[: self.options.budget]
        previous = self.round(folder / "round-1", chosen, seed)
        for number in range(2, self.options.rounds + 1):
            place = folder / strategy / f"round-{number}"
            known = read_result(place)
            if known:
                chosen = known["images"]
            elif strategy == "random":
                chosen = chosen + [i for i in order if i not in set(chosen)][: self.options.budget]
            else:
                chosen = chosen + self.next(strategy, previous, place, chosen)
            previous = self.round(place, chosen, seed)

    def round(self, place: Path, chosen: Sequence[int], seed: int) -> Path:
        """Train on the chosen images and evaluate; returns the folder."""
        if read_result(place):
            return place
        options, run = self.options, place / "train"
        self.write_data(place, chosen, options.steps * options.batch)
        words = f"--weights {options.weights} --data {place / 'data.yaml'} --out {run} --seed {seed} --workers 0"
        words += f" --imgsz {options.imgsz} --batch {options.batch} --epochs 1 --device cpu"
        words += f" --precision {options.precision}"
        resume = ["--resume"] if holds_run(run) else []
        weights = train(parse("train", [*words.split(), *resume, "--allow-outside"]))
        row = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        weights.replace(place / "weights.safetensors")
        result = {"images": list(chosen), "objects": int(self.counts[list(chosen)].sum()), "metrics": row}
        replace_text(place / RESULT, json.dumps(result) + "\n")
        shutil.rmtree(run)
        return place

    @property
    def counts(self) -> np.ndarray:
        """The number of objects in each training image (I,)."""
        return np.diff(self.pool.starts)

    def write_data(self, place: Path, chosen: Sequence[int], draws: int) -> None:
        """Write the labelled images and the test images as a dataset; the former often enough for `draws` samples."""
        repeats = -(-draws // len(chosen))
        drawn = [i for _ in range(repeats) for i in chosen][:draws]
        labelled = self.pool.select(chosen).to_coco()
        parts = {"train": repeated(self.pool, drawn), "val": self.test.to_coco(), "labelled": labelled}
        for name, content in parts.items():
            replace_text(place / f"{name}.json", json.dumps(content))
        for name, split in (("data", "train"), ("labelled", "labelled")):
            lines = [f"train: {{annotations: {split}.json, images: {self.pool.root.resolve()}}}"]
            lines += [f"val: {{annotations: val.json, images: {self.test.root.resolve()}}}"]
            replace_text(place / f"{name}.yaml", "\n".join(lines) + "\n")

    def next(self, strategy: str, previous: Path, place: Path, chosen: Sequence[int]) -> list[int]:
        """The images that `detect next` chooses with the model of the round before."""
        from detect.cli.parser import run

        known, options = set(chosen), self.options
        pool = {str(self.pool.image_path(i).resolve()): i for i in range(len(self.pool)) if i not in known}
        place.mkdir(parents=True, exist_ok=True)
        replace_text(place / "pool.txt", "\n".join(pool) + "\n")
        words = f"--weights {previous / 'weights.safetensors'} --data {previous / 'labelled.yaml'} --device cpu"
        words += f" --source {place / 'pool.txt'} --budget {options.budget} --out {place / 'next'}"
        words += f" --precision {options.precision}"
        words += "" if strategy == "default" else f" --criteria {strategy.replace(',', ' ')}"
        run("next", [*words.split(), "--allow-outside"])
        lines = (place / "next" / "images.txt").read_text(encoding="utf-8").splitlines()
        shutil.rmtree(place / "next")
        return [pool[str(Path(line).resolve())] for line in lines]


def repeated(pool: Annotations, drawn: Sequence[int]) -> dict[str, Any]:
    """COCO's form of images that come several times, each with an id of its own."""
    coco = pool.select(np.asarray(drawn)).to_coco()
    rows = iter(coco["annotations"])
    counts = np.diff(pool.starts)[np.asarray(drawn)].tolist()
    for number, (image, count) in enumerate(zip(coco["images"], counts, strict=True), 1):
        image["id"] = number
        for annotation in islice(rows, count):
            annotation["image_id"] = number
    for number, annotation in enumerate(coco["annotations"], 1):
        annotation["id"] = number
    return coco


def read_result(place: Path) -> dict[str, Any]:
    """The result of a round; empty where it is not done."""
    file = place / RESULT
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return result


def curves(out: Path, metric: str) -> dict[str, dict[int, list[float]]]:
    """The metric after each round, by strategy and seed; round 1 is the same for all strategies."""
    found: dict[str, dict[int, list[float]]] = {}
    for folder in sorted(out.glob("seed-*"), key=lambda one: int(one.name[5:])):
        first = read_result(folder / "round-1")
        for strategy in sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != "round-1") if first else []:
            values, number = [first["metrics"][metric]], 2
            while result := read_result(folder / strategy / f"round-{number}"):
                values.append(result["metrics"][metric])
                number += 1
            found.setdefault(strategy, {})[int(folder.name[5:])] = values
    return found


def area(values: Sequence[float]) -> float:
    """The mean height of a learning curve, by the trapezoidal rule: its area over its width."""
    heights = np.asarray(values)
    return float(np.mean((heights[1:] + heights[:-1]) / 2))


def table(out: Path, metric: str) -> list[str]:
    """Rows of a table: mean and standard deviation over the seeds that have finished all rounds.

    The last column has the interval in which the mean lies with 95 % (Student's t over the seeds).
    """
    found = curves(out, metric)
    rounds = max((len(v) for one in found.values() for v in one.values()), default=0)
    whole = {name: {s: v for s, v in one.items() if len(v) == rounds > 1} for name, one in found.items()}
    base = whole.get("random", {})
    heads = [
        "strategy",
        "seeds",
        *(f"round {n}" for n in range(1, rounds + 1)),
        "area",
        "objects",
        "area less random's",
    ]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, one in sorted(whole.items(), key=lambda item: (item[0] != "random", item[0])):
        if not one:
            continue
        columns = [spread([v[n] for v in one.values()]) for n in range(rounds)]
        paired = [area(v) - area(base[s]) for s, v in one.items() if s in base and name != "random"]
        last = [read_result(out / f"seed-{s}" / name / f"round-{rounds}").get("objects", 0) for s in one]
        areas, labelled = spread([area(v) for v in one.values()]), f"{statistics.mean(last):.0f}"
        cells = [name, str(len(one)), *columns, areas, labelled, interval(paired)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation as text."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{deviation}"


def interval(values: Sequence[float]) -> str:
    """Mean and its interval of 95 % as text."""
    if not values:
        return "-"
    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return f"{mean:+.3f}"
    half = float(student_t.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not done yet, and print the table. Exit status 2 is the user's mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument("--data", default="", help="dataset; its training images are the pool. Default: only the table")
    parser.add_argument("--split", default="val", help="split to evaluate on, which is never chosen from")
    parser.add_argument("--weights", default="picodet_s_320", help="weights that every round fine-tunes")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, the random first one included")
    parser.add_argument("--budget", type=int, default=20, help="images that a round adds")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds: 0, 1, 2 ...")
    parser.add_argument(
        "--strategy", default="random", help="random, default, or criteria as in diversity=1,margin=0.5"
    )
    parser.add_argument("--imgsz", type=int, default=160, help="image size of the training")
    parser.add_argument("--steps", type=int, default=60, help="steps of each training")
    parser.add_argument("--batch", type=int, default=8, help="images in a step")
    parser.add_argument("--precision", default="float32", help="type of numbers in the network")
    parser.add_argument("--metric", default="AP", help="metric of the table")
    options = parser.parse_args(arguments)
    if options.data:
        study = Study(options)
        for seed in range(options.seeds):
            study.run(seed, options.strategy)
    print("\n".join(table(Path(options.out), options.metric)))


if __name__ == "__main__":
    sys.exit(main())
