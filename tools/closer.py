"""What it is worth that a landmarker looks again: its errors by the number of looks, on pictures as they are and moved.

    python tools/closer.py --weights W --data D [--split val] [--every 1]

Moved is: turned by up to 25 degrees, shown at 0.6 to 1 of the size, and shifted by up to 0.12 of the side, at random
(seed 0); what lies outside the picture repeats its border. Errors are those of `detect evaluate`, which cuts out each
thing by its labelled box; this is the truth, so pictures as they are say how good points can be at best. Where nothing
is found, points count where they lie on average.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.api import Detector
from detect.data.alignment import Pose
from detect.data.datasets.landmarks import Instances
from detect.data.sources.formats import load_data
from detect.errors import UserError, in_one_line
from detect.evaluation.landmarks import LandmarkEvaluator
from detect.models.keypoints import around
from detect.types import Detections, Frame, Postprocess

PASSES = (1, 2, 3, 4)
ANGLE, SMALLEST, SHIFT = np.deg2rad(25), 0.6, 0.12


def pose(window: Sequence[float], rng: np.random.Generator | None) -> Pose:
    """How a view shows the window (x0, y0, x1, y1) of a picture: whole, or moved at random."""
    side = max(window[2] - window[0], window[3] - window[1])
    middle = complex(window[0] + window[2], window[1] + window[3]) / 2
    turn, off = complex(1 / side), 0j
    if rng is not None:
        turn *= rng.uniform(SMALLEST, 1) * np.exp(1j * rng.uniform(-ANGLE, ANGLE))
        off = complex(*rng.uniform(-SHIFT, SHIFT, 2))
    return Pose(turn, 0.5 + 0.5j + off - turn * middle)


def measured(detector: Detector, things: Instances, every: int, looks: int, moved: bool) -> dict[str, float]:
    """The numbers of `LandmarkEvaluator` for each `every`-th thing."""
    rng = np.random.default_rng(0) if moved else None
    judge, predictor = LandmarkEvaluator(things.annotations), detector.predictor(Postprocess(0.0))
    predictor.passes = looks
    windows, shape = things.windows(), np.pad(detector.metadata.shape, ((0, 0), (0, 1)), constant_values=1.0)
    for i in range(0, len(things), every):
        image, way = things.annotations.read(int(things.images[i])), pose(windows[i].tolist(), rng)
        view, side = way.view(image), way.side(image)
        ((_, found),) = predictor([Frame(view, "")])
        points = found.keypoints[0].double().numpy() if len(found) else shape * [side, side, 1]
        judge.update([int(things.ids[i])], [answer(way.undo(points, side))])
    return judge.result()


def answer(points: np.ndarray) -> Detections:
    """The record of one thing with points (K, 3)."""
    places = torch.from_numpy(points)
    return Detections(around(places)[None], places[:, 2].mean()[None], torch.zeros(1).long(), places[None])


def table(detector: Detector, things: Instances, every: int) -> Iterator[str]:
    """The errors as Markdown."""
    yield "| looks | NME | failures | NME, moved | failures, moved |"
    yield "| --- | --- | --- | --- | --- |"
    for looks in PASSES:
        plain, moved = (measured(detector, things, every, looks, moved) for moved in (False, True))
        numbers = [plain["nme"], plain["failures"], moved["nme"], moved["failures"]]
        yield f"| {looks} | " + " | ".join(f"{100 * number:.1f} %" for number in numbers) + " |"


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args(arguments)
    detector = Detector.load(options.weights)
    if not detector.metadata.shape:
        raise UserError(f"{options.weights} is no landmarker that knows where its points lie on average")
    if options.every < 1:
        raise UserError(f"--every {options.every}: take 1 for every picture, 2 for every other one")
    print("\n".join(table(detector, Instances.of(load_data(options.data, options.split)), options.every)))


if __name__ == "__main__":
    sys.exit(main())
