"""The page of a study: history, importances, parallel coordinates, the course of each trial, and a table of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from detect.commands.tune import TuneConfig
from detect.report.charts import bar_spec, interval_spec
from detect.report.html import Page
from detect.report.parallel import parallel_spec
from detect.tuning.base_settings import option_value, trial_config
from detect.tuning.confirm import BEST, GIVEN, Confirmed
from detect.tuning.lease import machine
from detect.tuning.space import Dimension, Space
from detect.tuning.study import EPOCHS, LEASE, PLACE, REASON, TunedStudy, origin
from detect.utils.atomic_io import replace_text

ENOUGH = 5  # finished trials from which importances say something
STATES = {
    TrialState.COMPLETE: "trained to the end",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "to be continued",
}


def write_page(path: Path, config: TuneConfig, study: TunedStudy, metric: str, confirmed: Confirmed | None) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        config: the settings of the study.
        study: the study.
        metric: what was optimized; the smallest value with a minus before it.
        confirmed: what other seeds gave; None: nothing was tried.
    """
    records, name = study.records(), metric.removeprefix("-")
    page = Page(f"Tuning {config.model.name} on {Path(config.data).name}")
    page.text(
        f"{len(records)} of {study.trials} trials of at most {config.epochs} epochs at {config.imgsz} px, "
        f"seed {config.seed}, sampler {config.sampler}, pruner {config.pruner}. The value of a trial is the "
        f"{'smallest' if metric.startswith('-') else 'largest'} {name} on the validation set after any of its epochs."
    )
    _best(page, config, study, name)
    _confirmed(page, confirmed, metric)
    page.heading("Trials")
    _history(page, records, metric)
    _courses(page, records, name)
    _importances(page, study)
    _parallel(page, config, study, records, metric)
    _slices(page, study.space, records, name)
    _table(page, study.space, records, name)
    _space(page, config, study.space)
    replace_text(path, str(page))


def _best(page: Page, config: TuneConfig, study: TunedStudy, name: str) -> None:
    """The best settings beside those given."""
    best = study.best()
    page.heading("The best settings")
    if best is None:
        return page.text("No trial has been trained to its end yet.")
    found = trial_config(config, study.space, best.params)
    given = trial_config(config, study.space, {})
    rows = [
        (one.name, _plain(option_value(given, one.name)), _plain(option_value(found, one.name))) for one in study.space
    ]
    page.text(f"Trial {origin(best)}, {name} {best.value:.4f}. detect train --config takes them from best.yaml.")
    return page.table(("setting", "given", "best"), rows)


def _confirmed(page: Page, confirmed: Confirmed | None, metric: str) -> None:
    """The runs with other seeds."""
    if confirmed is None or not all(confirmed.values.values()):
        return
    from detect.tuning.summary import verdict  # late: it writes this page

    name = metric.removeprefix("-")
    page.heading("Is the gain more than chance?")
    page.text(f"{verdict(confirmed, metric)[:1].upper()}{verdict(confirmed, metric)[1:]}.")
    rows = [(which, seed, value) for which in (GIVEN, BEST) for seed, value in sorted(confirmed.values[which].items())]
    page.table(("settings", "seed", name), rows)
    difference, low, high = confirmed.difference()
    if math.isfinite(high - low):
        page.chart(interval_spec({"best − given": (difference, low, high)}, name), "difference of the means, 95 %")
    page.text(
        "The best of many trials is partly the luckiest, so its value in the study is biased upwards; these runs have "
        "seeds that took no part in the choice. The validation images did take part: what is left of the gain on "
        "images that were never looked at, a test set alone tells (detect evaluate --split test). The interval is "
        "Welch's t over seeds, and says nothing about the choice of images."
    )


def _history(page: Page, records: Sequence[FrozenTrial], metric: str) -> None:
    """Values in the order of the trials, and the best so far."""
    better = min if metric.startswith("-") else max
    done = [one for one in records if one.state == TrialState.COMPLETE]
    so_far: list[tuple[float, float]] = []
    for one in done:
        value = float(one.value or 0)
        so_far.append((origin(one), better(value, so_far[-1][1]) if so_far else value))
    groups = {
        "pruned": [(origin(one), float(one.value)) for one in records if one.state == TrialState.PRUNED and one.value],
        "trained to the end": [(origin(one), float(one.value or 0)) for one in done],
    }
    page.dots(groups, "value of each trial; a pruned one has that of its last epoch", "trial", metric.removeprefix("-"))
    page.curves({"best so far": so_far}, "the best value so far", "trial", metric.removeprefix("-"))


def _courses(page: Page, records: Sequence[FrozenTrial], name: str) -> None:
    """The metric of each trial by epoch."""
    kept: dict[str, list[tuple[float, float]]] = {}
    for one in records:
        if one.intermediate_values:
            ending = "" if one.state == TrialState.COMPLETE else f" ({STATES[one.state]})"
            kept[f"{origin(one)}{ending}"] = sorted((float(at), value) for at, value in one.intermediate_values.items())
    page.curves(kept, f"{name} on the validation set by epoch", "epoch", name)


def _importances(page: Page, study: TunedStudy) -> None:
    """The share of the differences that each setting explains."""
    done = [one for one in study.records() if one.state == TrialState.COMPLETE]
    page.heading("What matters", 3)
    if len(done) < ENOUGH or len({one.value for one in done}) < 2 or len(study.space) < 2:
        return page.text(f"From {ENOUGH} trials on that end, with different values, the importances stand here.")
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study.study, evaluator=evaluator)
    page.chart(bar_spec(found), "share of the variance between trials that a setting explains (fANOVA)")
    return page.text(
        f"A functional analysis of variance (Hutter et al., 2014) over a random forest, fitted to the {len(done)} "
        "trials that were trained to the end. With few trials it is rough; a setting whose good values lie in a small "
        "part of its range looks less important than it is."
    )


def _parallel(page: Page, config: TuneConfig, study: TunedStudy, records: Sequence[FrozenTrial], metric: str) -> None:
    """A line for each trial that was trained to the end, through the values of its settings."""
    done = [one for one in records if one.state == TrialState.COMPLETE and one.value is not None]
    if not done:
        return
    name = metric.removeprefix("-")
    titles = {one.name: _title(one) for one in study.space}
    rows = [{**{titles[k]: v for k, v in one.params.items() if k in titles}, name: one.value} for one in done]
    axes = {titles[one.name]: one.log for one in study.space} | {name: False}
    spec = parallel_spec(rows, axes, name, [f"trial {origin(one)}" for one in done], metric.startswith("-"))
    page.chart(spec, "settings and values of the trials that were trained to the end; the best are orange")


def _slices(page: Page, space: Space, records: Sequence[FrozenTrial], name: str) -> None:
    """The value of the trials over each setting that is a number."""
    for one in space:
        if one.kind == "choices":
            continue
        groups = {
            label: [
                (math.log10(trial.params[one.name]) if one.log else trial.params[one.name], float(trial.value))
                for trial in records
                if trial.state == state and trial.value is not None and one.name in trial.params
            ]
            for label, state in (("pruned", TrialState.PRUNED), ("trained to the end", TrialState.COMPLETE))
        }
        page.dots(groups, _title(one), f"log10 of {_title(one)}" if one.log else _title(one), name)


def _table(page: Page, space: Space, records: Sequence[FrozenTrial], name: str) -> None:
    """All trials, each with its end."""
    page.heading("All trials", 3)
    rows = []
    for one in records:
        epochs = one.user_attrs.get(EPOCHS, len(one.intermediate_values))
        params = [_plain(one.params.get(dimension.name)) for dimension in space]
        said = one.user_attrs.get(REASON, "")
        rows.append((origin(one), STATES[one.state], one.value, epochs, *params, said, _where(one)))
    page.table(("trial", "end", name, "epochs", *map(_title, space), "reason", "folder"), rows)


def _space(page: Page, config: TuneConfig, space: Space) -> None:
    page.heading("Search space")
    given, rows = trial_config(config, space, {}), []
    for one in space:
        bounds = ", ".join(map(str, one.labels)) if one.kind == "choices" else f"{one.bounds[0]:g} to {one.bounds[1]:g}"
        how = " ".join(["times the default"] * (one.kind == "times") + ["logarithmic"] * one.log)
        rows.append((one.name, bounds, how, _plain(option_value(given, one.name))))
    page.table(("setting", "bounds", "", "given"), rows)


def _where(record: FrozenTrial) -> str:
    """The folder of a trial, with the machine where it is another one."""
    lease: Mapping[str, Any] = record.user_attrs.get(LEASE) or {}
    elsewhere = lease and lease.get("machine") != machine()
    return (f"{lease['name']}: " if elsewhere else "") + str(record.user_attrs.get(PLACE, ""))


def _title(dimension: Dimension) -> str:
    return f"{dimension.name} ×" if dimension.kind == "times" else dimension.name


def _plain(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
