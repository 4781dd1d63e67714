"""Puts the report of a run together: curves, what the best weights find and where they are wrong, how it was made."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations, known_sizes
from detect.data.sources.formats import splits
from detect.data_check.findings import anchors_of, facts
from detect.embedding.evaluate_pairs import measured_pairs
from detect.errors import UserError
from detect.evaluation.coco_protocol import NUMBERS, Records
from detect.evaluation.evaluate import measured
from detect.evaluation.evaluate_classes import measured_classes
from detect.evaluation.tide import KINDS, Judged, budget, confusion, curves, judge
from detect.report.examples import show
from detect.report.html import Page
from detect.tasks import TASKS
from detect.training.state import best_of
from detect.utils.atomic_io import read_bytes, replace_text
from detect.utils.yaml_files import read_yaml

PACKAGES = ("gridhead", "torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "hotcoco")
ELSEWHERE = {"epoch", "step", "images_per_second", "lr", "seconds"}
MATRIX = 30  # classes up to which the confusion matrix is shown


def write_report(run: Path, device: str = "auto") -> Path:
    """Write `report.html` into the folder of a run; its path. Raises UserError where there is no run to tell of."""
    settings, rows = _settings(run), _lines(run / "metrics.jsonl")
    weights = run / "best.safetensors"
    if not weights.exists() or not rows:
        raise UserError(
            f"{run} has no finished epoch (best.safetensors, metrics.jsonl): there is nothing to report yet"
        )
    detector = Detector.load(weights, device)
    task = TASKS[detector.model.task]
    page = Page(f"{settings['model']['name']} on {settings['data']}")
    best, found = best_of(rows, task.metric)
    chosen = f"the best is {best['epoch'] + 1}" if found else "nothing was found in any, so the last one is kept"
    page.text(f"{len(rows)} epochs; {chosen}, chosen by {task.metric.lstrip('-')}.")
    _training(page, rows, task.metric)
    how = {name: settings.get(name, False) for name in ("skip_bad", "allow_outside")} | {"workers": settings["workers"]}
    there = splits(settings["data"], task.whole, how["allow_outside"])
    split = next((s for s in ("val", "test") if s in there), "train")
    asked = EvaluateConfig(str(weights), settings["data"], split, device=device, **how)
    page.heading(f"The best weights on {split}")
    if detector.model.task == "embed":
        _pairs(page, measured_pairs(asked, detector)[1].result())
    elif detector.model.task == "classify":
        _, evaluator = measured_classes(asked, [detector])
        _classes(page, evaluator.result())
    else:
        store, evaluator = measured(asked, detector)
        result = evaluator.result()
        numbers = {name: value for name, value in result.items() if isinstance(value, int | float)}
        page.table(list(numbers), [list(numbers.values())])
        if set(NUMBERS) <= set(result):
            _detections(page, store, getattr(evaluator, "boxes", evaluator).records(), result, detector)
        elif "curve" in result:
            points = list(zip(result["errors"], result["curve"], strict=True))
            page.curves({"": points}, "share of pictures whose error is at most so large", "error", "share")
            page.bars({k: v for k, v in result["per_point"].items() if v is not None}, "mean error of each point")
    _made(page, settings, _lines(run / "changes.jsonl"))
    replace_text(run / "report.html", str(page))
    return run / "report.html"


def _training(page: Page, rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Losses, measures and rate over the epochs."""
    page.heading("Training")
    names = [name for name in rows[0] if name not in ELSEWHERE]
    measures = [name for name in ("AP", "AP50", "AP75", "OKS_AP", "top1", "top5", metric.lstrip("-")) if name in names]
    first = names.index(min(measures, key=names.index)) if measures else len(names)
    terms = names[:first] or names  # the loop writes loss terms first, then what the evaluator says

    def line(name: str) -> list[tuple[float, float]]:
        return [(row["epoch"] + 1, row[name]) for row in rows if name in row]

    page.curves({name: line(name) for name in terms}, "loss terms", "epoch")
    page.curves({name: line(name) for name in dict.fromkeys(measures)}, "measures on held-out images", "epoch")
    page.curves({"lr": line("lr")}, "learning rate at the end of an epoch", "epoch")
    page.curves({"images/s": line("images_per_second")}, "images a second", "epoch")


def _detections(
    page: Page, store: Annotations, records: Records, result: Mapping[str, Any], detector: Detector
) -> None:
    """Everything about boxes: curves, classes, errors, sizes, pictures."""
    judged = judge(store, records)
    lines = list(curves(judged, len(store.names)))
    conf = _scores(page, store, lines)
    _per_class(page, store, result, lines, conf)
    if len(store.names) <= MATRIX:
        names = [*store.names, "nothing"]
        page.matrix(
            confusion(store, records, conf),
            names,
            names,
            f"objects of each class (rows) by what they were found as (columns), from score {conf:.2f} on, at IoU 0.5; "
            "the last row is found where nothing is, the last column not found",
        )
    _errors(page, judged, len(store.names))
    _sizes(page, store, judged, detector)
    show(page, store, records, judged, conf)


def _scores(page: Page, store: Annotations, lines: Sequence[tuple[np.ndarray, ...]]) -> float:
    """Precision against recall, and F1 against the score asked for; the score at which the mean F1 is highest."""
    levels = np.linspace(0, 1, 101)
    f1s, mean = {}, np.zeros(101)
    known = [i for i in range(len(store.names)) if (store.labels[~store.crowd] == i).any()]
    for i in known:
        scores, precision, recall = lines[i]
        f1 = np.append(0.0, 2 * precision * recall / np.maximum(precision + recall, 1e-12))
        f1s[store.names[i]] = f1[np.searchsorted(-scores, -levels, side="right")]
        mean += f1s[store.names[i]] / len(known)
    shown = known if len(known) <= 10 else []  # more lines than that say nothing
    recalls = {store.names[i]: list(zip(lines[i][2].tolist(), lines[i][1].tolist(), strict=True)) for i in shown}
    recalls |= {} if shown else {"all classes": _pooled(lines)}
    page.curves(recalls, "precision against recall, IoU 0.5", "recall", "precision")
    drawn = {store.names[i]: f1s[store.names[i]] for i in shown} | {"mean of all classes": mean}
    pairs = {name: list(zip(levels.tolist(), values.tolist(), strict=True)) for name, values in drawn.items()}
    page.curves(pairs, "F1 of what scores at least so much, IoU 0.5", "score", "F1")
    best = float(levels[mean.argmax()])
    page.text(f"The mean F1 is highest, {mean.max():.3f}, from score {best:.2f} on: what follows counts from there.")
    return best


def _pooled(lines: Sequence[tuple[np.ndarray, ...]]) -> list[tuple[float, float]]:
    """The mean precision of all classes at 101 levels of recall."""
    levels, total = np.linspace(0, 1, 101), np.zeros(101)
    for _, precision, recall in lines:
        smooth = np.maximum.accumulate(precision[::-1])[::-1]
        total += np.append(smooth, 0.0)[np.searchsorted(recall, levels)] / len(lines)
    return list(zip(levels.tolist(), total.tolist(), strict=True))


def _per_class(
    page: Page, store: Annotations, result: Mapping[str, Any], lines: Sequence[tuple[np.ndarray, ...]], conf: float
) -> None:
    rows: list[tuple[object, ...]] = []
    counts = np.bincount(store.labels[~store.crowd], minlength=len(store.names)).tolist()
    for (scores, precision, recall), (name, ap), count in zip(lines, result["per_class"].items(), counts, strict=True):
        last = int((scores >= conf).sum()) - 1
        both = (float(precision[last]), float(recall[last])) if last >= 0 else (None, 0.0)
        rows.append((name, count, ap, *both))
    page.table(("class", "objects", "AP", "precision", "recall"), rows)


def _errors(page: Page, judged: Judged, classes: int) -> None:
    found = budget(judged, classes)
    page.heading("What the errors cost")
    page.text(
        f"TIDE: AP at IoU 0.5 is {found.ap:.3f}; each kind costs what would be gained if it alone were mended. "
        f"All false positives cost {found.false_positives:.3f}, all false negatives {found.false_negatives:.3f}."
    )
    page.bars(found.costs, "AP that each kind of error costs")
    page.table(("kind", "detections or objects", "costs"), [(k, found.counts[k], found.costs[k]) for k in KINDS])


def _sizes(page: Page, store: Annotations, judged: Judged, detector: Detector) -> None:
    """Box sizes with the anchors, and how many objects of each size are found."""
    page.heading("Sizes")
    size = detector.metadata.size
    seen = facts(store, known_sizes(store), size)
    own = [(row[0], row[1]) for row in detector.model.config.anchors]
    anchors = anchors_of(seen["sides"], 9, size)
    shown = own or [(w, h) for w, h in anchors.get("anchors", [])]
    named = "the model's anchors" if own else "nine anchors by K-means, which this model does not use"
    page.dots({"boxes": seen["sides"].tolist(), named: shown}, f"boxes at {size} px, and {named}", "width", "height")
    if anchors:
        page.text(
            f"Nine anchors reach a mean IoU of {anchors['mean_iou']:.3f} and a recall of {anchors['recall']:.3f}."
        )
    sides = np.sqrt(seen["sides"].prod(1))
    if len(sides) == len(judged.found) and len(sides):
        edges = np.quantile(sides, np.linspace(0, 1, 9))
        place = np.clip(np.searchsorted(edges, sides, side="right") - 1, 0, 7)
        line = [
            (float(sides[place == k].mean()), float(judged.found[place == k].mean()))
            for k in range(8)
            if (place == k).any()
        ]
        page.curves({"": line}, f"share of objects found, by the side of their box at {size} px", "side", "found")


def _classes(page: Page, result: Mapping[str, Any]) -> None:
    numbers = {name: value for name, value in result.items() if isinstance(value, int | float)}
    page.table(list(numbers), [list(numbers.values())])
    keys = ("count", "precision", "recall", "f1")
    page.table(("class", *keys), [(name, *(row[k] for k in keys)) for name, row in result["per_class"].items()])
    names, counts = result["confusion"].get("names", []), np.array(result["confusion"].get("counts", []))
    if 0 < len(names) <= MATRIX:
        page.matrix(counts, names, names, "true classes (rows) by answers (columns)")


def _pairs(page: Page, result: Mapping[str, Any]) -> None:
    page.table([name for name in result if name not in ("roc", "thresholds")], [[*result.values()][:-2]])
    page.table(("threshold", "distance"), list(result["thresholds"].items()))
    page.curves({"": result["roc"]}, "true accepts by false accepts", "false accepts", "true accepts")


def _made(page: Page, settings: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> None:
    page.heading("How it was made")
    rows = [(name, _version(name)) for name in PACKAGES]
    page.table(("what", "version"), [("Python", platform.python_version()), ("system", platform.platform()), *rows])
    page.text(f"Seed {settings['seed']}.")
    if changes:
        page.text("The run was resumed with other settings; those further below are the last. From then on:")
        made = [(c["epoch"] + 1, c["step"], name, *both) for c in changes for name, both in c["changed"].items()]
        page.table(("epoch", "after step", "setting", "before", "since then"), [(*map(str, row),) for row in made])
    page.code(yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _settings(run: Path) -> dict[str, Any]:
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no folder of a run: it has no config.yaml")
    found = read_yaml(run / "config.yaml")
    if not isinstance(found, dict) or not {"data", "model", "seed", "workers"} <= set(found):
        raise UserError(f"{run / 'config.yaml'} is no configuration of a run")
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file that holds one a line; none where there is no file."""
    try:
        lines = read_bytes(file).decode("utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is no JSON object")
        return rows
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
