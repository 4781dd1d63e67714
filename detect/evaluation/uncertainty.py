"""What `detect evaluate` says of how sure its numbers are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.evaluation.bootstrap import Bootstrap, Name, Resampled, bootstrap, draw_weights, resamples_for
from detect.evaluation.difference import Comparison, compare, comparison_lines
from detect.evaluation.protocol_options import under
from detect.evaluation.slices import Slice, slice_lines, slice_values, slices
from detect.tasks import Evaluation, Task

WIDTH = 120  # of the lines


class Trust(NamedTuple):
    """What else is known of the numbers of an evaluation: intervals, slices, and the comparison with another one."""

    metric: str
    intervals: Bootstrap | None
    slices: list[Slice]
    against: Comparison | None

    def lines(self, annotations: Annotations) -> Iterator[str]:
        """The lines that `detect evaluate` prints."""
        yield from interval_lines(self.intervals, annotations) if self.intervals else ()
        yield from slice_lines(self.slices, self.metric)
        yield from comparison_lines(self.against, annotations) if self.against else ()

    def values(self, annotations: Annotations) -> dict[str, Any]:
        """Plain values, for a file."""
        found: dict[str, Any] = {"intervals": self.intervals.intervals()} if self.intervals else {}
        found |= {"slices": slice_values(self.slices)} if self.slices else {}
        return found | ({"against": self.against.values(annotations)} if self.against else {})


def trust(config: EvaluateConfig, task: Task, evaluation: Evaluation) -> Trust:
    """Resample an evaluation, slice it, and compare it, as `config` says.

    Raises:
        UserError: there are no such slices, or what it is compared with cannot be evaluated on the same images.
    """
    annotations, evaluator = evaluation.annotations, evaluation.evaluator
    sure = resample(evaluator, annotations, config.resamples)
    if (config.slice or config.against) and not isinstance(evaluator, Resampled):
        raise UserError(f"{task.with_article} cannot be resampled, as --slice and --against need")
    kinds = config.slice, evaluator, annotations, config.slice_table, config.resamples
    parts = list(slices(*kinds)) if config.slice else []
    against = _against(config, task, evaluation, sure) if config.against else None
    return Trust(task.metric.lstrip("-"), sure, parts, against)


def _against(config: EvaluateConfig, task: Task, evaluation: Evaluation, sure: Bootstrap | None) -> Comparison:
    if sure is None:
        raise UserError("--against compares resamples of the images, and there are none: leave --resamples 0 out")
    other = under(config.protocol, _other(config, task))
    if config.boundary:
        other.evaluator.boundary_result()
    if other.annotations.image_ids.tolist() != evaluation.annotations.image_ids.tolist():
        raise UserError(f"{config.against} was evaluated on other images than the rest: {other.source}")
    theirs = resample(other.evaluator, other.annotations, config.resamples)
    assert theirs is not None  # of the same task, on the same images
    pairs = (evaluation.evaluator, sure), (other.evaluator, theirs)
    return compare(*pairs, len(evaluation.annotations), task.metric, config.against)


def against_file(config: EvaluateConfig) -> bool:
    """Whether `config.against` names a results file, rather than weights."""
    return Path(config.against).suffix.lower() == ".json"


def _other(config: EvaluateConfig, task: Task) -> Evaluation:
    """The evaluation of what `config.against` names, on the same split."""
    if against_file(config):
        from detect.evaluation.results_file import judged_file  # late: it imports this file

        return judged_file(config, config.against, task.name)[0]
    from detect.api import Detector

    detector = Detector.load(config.against, config.device, config.precision)
    if detector.model.task != task.name:
        raise UserError(f"--against {config.against} is of the task {detector.model.task}, not {task.name}")
    again = replace(config, weights=[config.against], results="")
    return task.evaluate(again, [detector], task.postprocess(again))


def resample(evaluator: Any, annotations: Annotations, resamples: int = -1) -> Bootstrap | None:
    """Resample the numbers of an evaluator; None where nothing can be, or shall be.

    Args:
        evaluator: one that has taken all its predictions.
        annotations: the split; a resample draws from its images.
        resamples: how many. -1: `resamples_for` so many images; 0: none.
    """
    images = len(annotations)
    count = resamples_for(images) if resamples < 0 else resamples
    if not count or not images or not isinstance(evaluator, Resampled):
        return None
    return bootstrap(evaluator, draw_weights(images, count))


def interval_lines(found: Bootstrap, annotations: Annotations) -> Iterator[str]:
    """The lines that `detect evaluate` prints of intervals: single numbers, then each group such as `per_class`."""
    count = len(next(iter(found.values.values()), ()))
    yield f"95 % intervals (bootstrap: {count:,} resamples of the {len(annotations):,} images)"
    for group, names in groupby(found.values, key=lambda name: name[0] if len(name) > 1 else ""):
        told = ", ".join(_told(name, found) for name in names)
        yield from wrap(f"{group}: {told}" if group else told, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _told(name: Name, found: Bootstrap) -> str:
    between = found.interval(name)
    label = " ".join(name[1:] or name).replace(" ", "\u00a0")  # so that lines do not break within
    return f"{label}\u00a0" + (f"{between[0]:.3f}\u2013{between[1]:.3f}" if between else "\u2013")
