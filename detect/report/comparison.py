"""The page of `detect report --runs`: several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detect.config.fields import dotted
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.bootstrap import Bootstrap
from detect.evaluation.difference import UNLIKELY, difference
from detect.evaluation.uncertainty import resample
from detect.report.charts import interval_spec
from detect.report.html import Page
from detect.report.run_files import losses_and_metrics
from detect.report.runs import Run, evaluate_best, read_run
from detect.tasks import Evaluation, Task, get_task
from detect.tasks.base import numbers
from detect.training.state import best_of
from detect.utils.atomic_io import replace_text
from detect.utils.names import say
from detect.utils.progress import track


class Compared(NamedTuple):
    """A run, the evaluation of its best weights, and the parameters of its model."""

    run: Run
    evaluation: Evaluation
    parameters: int


def write_comparison(folders: Sequence[Path], page: Path, device: str = "auto") -> Path:
    """Write the page that compares several runs.

    Args:
        folders: the folders of the runs.
        page: the HTML file to write.
        device: where to evaluate the best weights, such as "cpu".

    Returns:
        The path of the page.

    Raises:
        UserError: a folder holds no finished run, or the runs are of different tasks or datasets.
    """
    if len(folders) < 2:
        raise UserError("--runs compares runs: name at least two folders; --run reports one")
    runs = [read_run(folder) for folder in folders]
    compared: dict[str, Compared] = {}
    tasks: list[Task] = []
    for name, run in zip(short_names(folders), runs, strict=True):
        detector, config, evaluation = evaluate_best(run, device)
        tasks.append(get_task(detector.model.task))
        compared[name] = Compared(run, evaluation, sum(p.numel() for p in detector.model.parameters()))
        _require_alike(tasks, list(compared.values()), config.split)
    made = Page(f"{len(runs)} runs on {Path(str(runs[0].settings['data'])).name}")
    made.text(f"The best weights of each run on {config.split}: {compared[name].evaluation.amount}.")
    _results(made, compared, tasks[0])
    _curves(made, compared, tasks[0])
    _settings(made, compared)
    _classes(made, compared)
    replace_text(page, str(made))
    say(f"page: {page}")
    return page


def short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ: "a", "b", or "plain/run", "residual/run".

    Raises:
        UserError: a folder is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise UserError(f"{twice} is named twice: a run is compared with others")
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def differing(settings: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of the settings that differ: name and the value in each run; "–" where a run has no such setting."""
    flat = [dotted(one) for one in settings.values()]
    names = dict.fromkeys(name for one in flat for name in one if name != "out")
    rows = [(name, *(str(one.get(name, "–")) for one in flat)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _require_alike(tasks: Sequence[Task], compared: Sequence[Compared], split: str) -> None:
    """Raise a UserError unless the last run was evaluated like the first one."""
    first, last = compared[0], compared[-1]
    if tasks[0].name != tasks[-1].name:
        raise UserError(
            f"{first.run.folder} is of the task {tasks[0].name}, {last.run.folder} of {tasks[-1].name}: "
            "only runs of the same task can be compared"
        )
    if not _same(first.evaluation.annotations, last.evaluation.annotations):
        raise UserError(
            f"{first.run.folder} and {last.run.folder} are evaluated on different images, annotations or classes "
            f"({first.evaluation.source} and {last.evaluation.source}, {split}): compare runs on the same data"
        )


def _same(a: Annotations, b: Annotations) -> bool:
    files = all(a.file_name(i) == b.file_name(i) for i in range(min(len(a), len(b))))
    arrays = ((a.image_ids, b.image_ids), (a.boxes, b.boxes), (a.labels, b.labels))
    return files and a.names == b.names and all(np.array_equal(x, y) for x, y in arrays)


def _results(page: Page, compared: Mapping[str, Compared], task: Task) -> None:
    """The metrics of each run, with intervals and paired tests of the one that chooses the best epoch."""
    page.heading("Results")
    ap = task.metric.lstrip("-")
    made = _bootstrap(compared, ap)
    sure = {name: one.interval((ap,)) for name, one in made.items()}
    rows: list[tuple[object, ...]] = []
    found = {name: numbers(one.evaluation.evaluator.result()) for name, one in compared.items()}
    for name, (run, _, parameters) in compared.items():
        best, _ = best_of(run.rows, task.metric)
        minutes = sum(row.get("seconds", 0) for row in run.rows) / 60 or None
        about = (str(run.settings["model"]["name"]), parameters, len(run.rows), best["epoch"] + 1, minutes)
        between = [_between(sure[name])] if sure else []
        rows.append((name, *between, *found[name].values(), *about))
    extra = [f"95 % interval of {ap}"] if sure else []
    metrics = next(iter(found.values()))
    page.table(("run", *extra, *metrics, "model", "parameters", "epochs", "best epoch", "minutes"), rows)
    if not sure:
        return page.text("The evaluator of this task cannot be resampled: there are no intervals and tests.")
    page.chart(
        interval_spec({name: (v := found[name][ap], *(one or (v, v))) for name, one in sure.items()}, ap),
        f"{ap} with its 95 % interval",
    )
    return _tests(page, made, ap)


def _bootstrap(compared: Mapping[str, Compared], metric: str) -> dict[str, Bootstrap]:
    """The numbers of each run on the same resamples; none where a run cannot be resampled or lacks the metric."""
    evaluations = [(name, one.evaluation) for name, one in compared.items()]
    found = {
        name: made
        for name, one in track(evaluations, len(evaluations), "resamples")
        if (made := resample(one.evaluator, one.annotations)) is not None and (metric,) in made.values
    }
    return found if len(found) == len(compared) else {}


def _tests(page: Page, made: Mapping[str, Bootstrap], ap: str) -> None:
    """The differences between runs, on the same resamples."""
    page.heading("Differences", 3)
    rows = []
    for a, b in combinations(made, 2):
        one = difference(made[a], made[b], (ap,))
        said, sure = "yes" if one.p < UNLIKELY else "no", _between(one.interval)
        rows.append((f"{a} − {b}", one.difference, sure, one.p, said))
    page.table(("difference", ap, "95 % interval", "p", f"more than chance (p < {UNLIKELY:g})"), rows)
    count = len(next(iter(made.values())).values[ap,])
    page.text(
        f"Intervals and tests are a bootstrap over images: {count:,} resamples, the same for all runs, so that "
        "differences are paired. An interval holds the middle 95 % around the measured AP; p is two-sided. They say "
        "how much depends on the choice of the validation images, not on the seed of the training: for that, train "
        f"with several seeds (tools/compare.py). Of many comparisons about one in {round(1 / UNLIKELY)} seems to be "
        "more than chance without being so."
    )


def _between(interval: tuple[float, float] | None) -> str | None:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else None


def _curves(page: Page, compared: Mapping[str, Compared], task: Task) -> None:
    """Metrics and losses of all runs, by epoch; the first metric by time as well."""
    page.heading("Training")
    rows = {name: one.run.rows for name, one in compared.items()}

    def by_epoch(names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
        return {
            run: [(row["epoch"] + 1, sum(row[name] for name in names)) for row in lines if set(names) <= set(row)]
            for run, lines in rows.items()
        }

    terms, metrics = (
        list(dict.fromkeys(name for names in kinds for name in names))
        for kinds in zip(*(losses_and_metrics(lines, task) for lines in rows.values()), strict=True)
    )
    for metric in metrics:
        page.curves(by_epoch([metric]), f"{metric} on the validation set", "epoch", metric)
    timed = {
        run: list(
            zip(accumulate(row["seconds"] / 60 for row in lines), (row[metrics[0]] for row in lines), strict=True)
        )
        for run, lines in rows.items()
        if all("seconds" in row and metrics[0] in row for row in lines)
    }
    page.curves(timed, f"{metrics[0]} by time of training", "minutes", metrics[0])
    for term in terms:
        page.curves({run: points for run, points in by_epoch([term]).items() if points}, f"loss: {term}", "epoch")
    page.curves(by_epoch(["lr"]), "learning rate at the end of an epoch", "epoch")


def _settings(page: Page, compared: Mapping[str, Compared]) -> None:
    page.heading("Settings that differ")
    rows = differing({name: one.run.settings for name, one in compared.items()})
    if not rows:
        return page.text("None.")
    return page.table(("setting", *compared), rows)


def _classes(page: Page, compared: Mapping[str, Compared]) -> None:
    """AP of each class in each run, for tasks that have it: of boxes, and of masks where there are any."""
    annotations = next(iter(compared.values())).evaluation.annotations
    counts = np.bincount(annotations.labels[~annotations.crowd], minlength=len(annotations.names)).tolist()
    for key, title in (("per_class", "AP of each class"), ("mask_per_class", "Mask AP of each class")):
        results = [one.evaluation.evaluator.result().get(key, {}) for one in compared.values()]
        if any(value is not None and not isinstance(value, float) for one in results for value in one.values()):
            continue
        if results[0]:
            page.heading(title)
            columns = zip(results[0], counts, strict=True)
            rows = [(name, count, *(one[name] for one in results)) for name, count in columns]
            page.table(("class", "objects", *compared), rows)
