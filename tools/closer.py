"""Measures what repeated passes of a landmarker gain: its errors by number of passes, on plain and on moved images.

    python tools/closer.py --weights W --data D [--split val] [--every 1]

Moved images are rotated by up to 25 degrees, scaled by 0.6 to 1, and shifted by up to 0.12 of the side, at random
(seed 0); pixels outside the image repeat its border. Errors are those of `detect evaluate`, which crops each instance
by its labelled box; this box is ground truth, so plain images give an upper bound. An instance without a detection
counts with the mean shape.
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
    """Map the window (x0, y0, x1, y1) of an image to a view: centred, or moved at random if `rng` is given."""
    side = max(window[2] - window[0], window[3] - window[1])
    middle = complex(window[0] + window[2], window[1] + window[3]) / 2
    turn, off = complex(1 / side), 0j
    if rng is not None:
        turn *= rng.uniform(SMALLEST, 1) * np.exp(1j * rng.uniform(-ANGLE, ANGLE))
        off = complex(*rng.uniform(-SHIFT, SHIFT, 2))
    return Pose(turn, 0.5 + 0.5j + off - turn * middle)


def evaluate(detector: Detector, instances: Instances, every: int, passes: int, moved: bool) -> dict[str, float]:
    """Evaluate every `every`-th instance with `passes` passes; returns the metrics of `LandmarkEvaluator`."""
    rng = np.random.default_rng(0) if moved else None
    evaluator, predictor = LandmarkEvaluator(instances.annotations), detector.predictor(Postprocess(0.0))
    predictor.passes = passes
    windows, shape = instances.windows(), np.pad(detector.metadata.shape, ((0, 0), (0, 1)), constant_values=1.0)
    for i in range(0, len(instances), every):
        image, view_pose = instances.annotations.read(int(instances.images[i])), pose(windows[i].tolist(), rng)
        view, side = view_pose.view(image), view_pose.side(image)
        ((_, detections),) = predictor([Frame(view, "")])
        points = detections.keypoints[0].double().numpy() if len(detections) else shape * [side, side, 1]
        evaluator.update([int(instances.ids[i])], [detection_of(view_pose.undo(points, side))])
    return evaluator.result()


def detection_of(points: np.ndarray) -> Detections:
    """Make the detection of one instance with keypoints (K, 3)."""
    keypoints = torch.from_numpy(points)
    return Detections(around(keypoints)[None], keypoints[:, 2].mean()[None], torch.zeros(1).long(), keypoints[None])


def table(detector: Detector, instances: Instances, every: int) -> Iterator[str]:
    """Yield the lines of the table of errors in Markdown."""
    yield "| passes | NME | failures | NME, moved | failures, moved |"
    yield "| --- | --- | --- | --- | --- |"
    for passes in PASSES:
        plain, moved = (evaluate(detector, instances, every, passes, moved) for moved in (False, True))
        numbers = [plain["nme"], plain["failures"], moved["nme"], moved["failures"]]
        yield f"| {passes} | " + " | ".join(f"{100 * number:.1f} %" for number in numbers) + " |"


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--weights", required=True, help="weights file of a landmarker")
    parser.add_argument("--data", required=True, help="a dataset with keypoints")
    parser.add_argument("--split", default="val", help="default: val")
    parser.add_argument("--every", type=int, default=1, help="use every N-th instance; default: 1")
    options = parser.parse_args(arguments)
    detector = Detector.load(options.weights)
    if not detector.metadata.shape:
        raise UserError(f"{options.weights} is no landmarker with a mean shape; name weights of `detect train`")
    if options.every < 1:
        raise UserError(f"--every {options.every}: must be at least 1; 1 uses every instance, 2 every other one")

    print("\n".join(table(detector, Instances.of(load_data(options.data, options.split)), options.every)))


if __name__ == "__main__":
    sys.exit(main())
