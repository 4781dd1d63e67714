"""Whether `detect evaluate --guarantee` keeps its promise on real images: `python -m tools.coverage --help`.

The images of some splits are predicted once and pooled. Again and again a random part of them chooses the threshold,
and the recall of the others is measured: its mean over the draws must reach what was guaranteed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.errors import UserError, in_one_line
from detect.evaluation.conformal import Matches, covered, matches_of
from detect.tasks import get_task
from detect.utils.names import say


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--pool", nargs="+", default=["val", "test"], help="splits that were not trained on")
    parser.add_argument("--recall", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--share", type=float, default=0.5, help="of the images that choose the threshold")
    parser.add_argument("--splits", type=int, default=200, help="random draws")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def pooled(detector: Detector, weights: str, data: str, pool: list[str]) -> Matches:
    """What `detect evaluate` finds on the images of several splits, as one."""
    task, parts = get_task(detector.model.task), []
    if "guarantee" not in task.options["evaluate"]:
        raise UserError(f"{weights}: a guarantee is for detectors")
    for split in pool:
        config = EvaluateConfig(weights=[weights], data=data, split=split)
        evaluation = task.evaluate(config, [detector], task.postprocess(config))
        parts.append(matches_of(evaluation.annotations, evaluation.evaluator.boxes.errors))
    starts = np.cumsum([0, *(len(one.objects) for one in parts)])
    images = np.concatenate([one.images + start for one, start in zip(parts, starts[:-1], strict=True)])
    return Matches(np.concatenate([p.scores for p in parts]), images, np.concatenate([p.objects for p in parts]))


def rows(matches: Matches, given: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    yield "| guaranteed | mean recall of the others | least and most | draws that reach it | uncorrected mean |"
    yield "| --- | --- | --- | --- | --- |"
    for recall in given.recall:
        found, _ = covered(matches, recall, given.share, given.splits, given.seed)
        plain, _ = covered(matches, recall, given.share, given.splits, given.seed, unseen=0)
        if np.isnan(found).any():
            refused = f"refused in {int(np.isnan(found).sum())} of {given.splits} draws"
            yield f"| {recall:g} | {refused} | | | |"
            continue
        between, reach = f"{found.min():.3f} to {found.max():.3f}", (found >= recall).mean()
        yield f"| {recall:g} | {found.mean():.4f} | {between} | {reach:.0%} | {plain.mean():.4f} |"


@in_one_line
def main() -> None:
    """Predict, draw, measure and print."""
    given = options()
    matches = pooled(Detector.load(given.weights), given.weights, given.data, given.pool)
    known = int((matches.objects > 0).sum())
    say(f"{known} images with objects of {' and '.join(given.pool)}; {given.share:.0%} of them choose, {given.splits}x")
    for line in rows(matches, given):
        say(line)


if __name__ == "__main__":
    main()
