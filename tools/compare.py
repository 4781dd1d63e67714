"""Compares training settings on the same dataset over several seeds: mean and standard deviation of AP, and mask AP.

python tools/compare.py --data D --out R --seeds 5 [--images N | --per-class N] --arm "NAME: flags" ... FLAGS OF ALL
Every arm is `detect train` with FLAGS OF ALL and its own flags; its best weights are evaluated on the test split, or on
val where there is no test split. With --images each seed draws that number of training images, the same for all arms.
With --per-class it draws images until each class is in that many of them, and no other images choose the best weights.
Results that exist are not computed again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.cli.parser import parse
from detect.commands.evaluate import evaluate
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError, in_one_line
from detect.training.setup import train
from detect.utils.atomic_io import replace_text
from detect.utils.yaml_files import dump_yaml
from tools import side_by_side as ways


def subset(data: str, count: int, seed: int, folder: Path) -> Path:
    """Write a data YAML whose training split is `count` images drawn from that of `data`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    there: dict[str, dict[str, str]] = {}
    for split in splits(data):
        annotations = load_data(data, split)
        if split == "train":
            if count > len(annotations):
                raise UserError(f"--images {count}: {data} has {len(annotations)} training images")
            chosen = np.random.default_rng(seed).choice(len(annotations), count, replace=False)
            annotations = annotations.select(np.sort(chosen))
        file = folder / f"instances_{split}.json"
        replace_text(file, json.dumps(annotations.to_coco()))
        there[split] = {"annotations": str(file.resolve()), "images": str(annotations.root.resolve())}
    return _data_yaml(folder, there)


def few_shot(data: str, count: int, seed: int, folder: Path) -> Path:
    """Write a data YAML of training images alone, drawn until each class is in `count` of them; returns its path.

    An image is left out if all its classes are in enough images already. A class that fewer images show has them all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    annotations = load_data(data, "train")
    seen, chosen = np.zeros(len(annotations.names), np.int64), []
    for i in np.random.default_rng(seed).permutation(len(annotations)):
        classes = np.unique(annotations.labels[annotations.starts[i] : annotations.starts[i + 1]])
        if (seen[classes] < count).any():
            seen[classes] += 1
            chosen.append(i)
    file = folder / "instances_train.json"
    replace_text(file, json.dumps(annotations.select(np.sort(chosen)).to_coco()))
    return _data_yaml(
        folder, {"train": {"annotations": str(file.resolve()), "images": str(annotations.root.resolve())}}
    )


def _data_yaml(folder: Path, splits: dict[str, dict[str, str]]) -> Path:
    path = folder / "data.yaml"
    replace_text(path, dump_yaml(splits))
    return path


def measured(data: str, seed: int, flags: Sequence[str], out: Path, tested: str = "") -> dict[str, Any]:
    """Train with `flags` into `out` and evaluate the best weights; the result is kept in `out`/result.json.

    Args:
        data: what is trained on. seed: of the run. flags: of `detect train`. out: the run folder.
        tested: the dataset whose test or val split is evaluated. Default: `data`.
    """
    kept = out / "result.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    started = time.monotonic()
    given = ["--data", data, "--seed", str(seed), "--out", str(out), *flags]
    best = train(parse("train", [*given, "--resume"]))
    seconds = time.monotonic() - started
    tested = tested or data
    split = "test" if "test" in splits(tested) else "val"
    result = evaluate(parse("evaluate", ["--data", tested, "--split", split, "--weights", str(best)]))
    result |= {"seconds": round(seconds, 1), "split": split}
    replace_text(kept, json.dumps(result, indent=1))
    return result


def side_by_side(given: argparse.Namespace, flags: Sequence[str]) -> str:
    """Train and evaluate the models of --models; returns the page, which is also written to OUT."""
    out = Path(given.out)
    models: dict[str, list[ways.SeedResult]] = {}
    annotations = ways.evaluation_split(given.data)
    for name, *extra in map(str.split, given.models):
        models[name] = []
        for seed in range(given.seeds):
            folder = out / f"{name}_{seed}"
            own = ["--model", name, "--model.backbone", given.backbone, "--data", given.data, "--seed", str(seed)]
            spent, started = folder / "seconds.json", time.monotonic()
            best = folder / "best.safetensors"
            if not spent.exists():
                best = train(parse("train", [*own, "--out", str(folder), *flags, *extra, "--resume"]))
                replace_text(spent, json.dumps(time.monotonic() - started))
            seconds = json.loads(spent.read_text(encoding="utf-8"))
            models[name].append(ways.evaluate_weights(best, annotations, seconds))
    return ways.write(given.data, models, out)


def metrics(result: dict[str, Any]) -> dict[str, float]:
    """The columns of the table: AP and AP50, of masks too where there are any, and the AP of each class."""
    found = {key: result[key] for key in ("AP", "AP50", "mask_AP", "mask_AP50") if key in result}
    kind = "mask_" if "mask_per_class" in result else ""
    return found | {f"{kind}AP {label}": value or 0.0 for label, value in result[f"{kind}per_class"].items()}


def row(name: str, results: Sequence[dict[str, Any]]) -> str:
    """One line of the table: mean and standard deviation over the seeds."""
    columns = [[metrics(r)[key] for r in results] for key in metrics(results[0])]
    cells = [f"{statistics.mean(c):.3f} ± {statistics.stdev(c) if len(c) > 1 else 0:.3f}" for c in columns]
    return f"| {name} | {' | '.join(cells)} | {statistics.mean(r['seconds'] for r in results):.0f} |"


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write it to OUT/table.md. Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", required=True, help="a dataset, as in `detect train`")
    parser.add_argument("--out", required=True, help="folder of runs and tables")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm or model; default: 3")
    drawn = parser.add_mutually_exclusive_group()
    drawn.add_argument("--images", type=int, default=0, help="training images that each seed draws; 0: all")
    drawn.add_argument("--per-class", type=int, default=0, help="training images of each class that each seed draws")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--arm", action="append", help="'NAME: flags of detect train'; repeat for each arm")
    what.add_argument(
        "--models", nargs="+", help="models to compare on one page; with flags of their own: 'NAME --flag value'"
    )
    parser.add_argument("--backbone", default="csp_n", help="backbone of all --models")
    given, flags = parser.parse_known_args(arguments)
    out, arms = Path(given.out), dict(arm.partition(":")[::2] for arm in given.arm or ())
    if given.models:
        print(side_by_side(given, flags))
        return
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for seed in range(given.seeds):
        data, count, folder = given.data, given.images or given.per_class, out / f"data_{seed}"
        if count:
            data = str((few_shot if given.per_class else subset)(given.data, count, seed, folder))
        for name, own in arms.items():
            results[name].append(measured(data, seed, [*flags, *own.split()], out / f"{name}_{seed}", given.data))
    first = next(iter(results.values()))[0]
    head = ["arm", *metrics(first), "seconds"]
    head[1] = f"{first['split']} {head[1]}"
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *(row(n, r) for n, r in results.items())]
    replace_text(out / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
