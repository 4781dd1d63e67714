"""Evaluates tracks with TrackEval, an independent evaluator: HOTA, MOTA and IDF1.

    python tools/mot.py --gt gt/gt.txt --tracks detections.json --trackeval PYTHON     # of `detect predict --track`
    python tools/mot.py --gt gt/gt.txt --detections det/det.txt --trackeval PYTHON     # our tracks of these detections

Text files are in the MOTChallenge format, a line each: frame, number, left, top, width, height, score. The scores of
such --detections are divided by their maximum; a detections.json of `detect predict` without --track (and with a low
--conf) is taken as it is. Detections of at least --conf start tracks; each --tracker makes its own, a line each, and
--images is the folder of the frames, for trackers that follow the camera. PYTHON is the interpreter of an environment
with the package trackeval, which installs another OpenCV and so cannot share this environment.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from anchors.boxes import iou, xywh_to_xyxy
from detect.config.tracking import TrackConfig
from detect.errors import UserError, in_one_line
from detect.inference.source import open_source
from detect.registry import REGISTRIES
from detect.types import Detections

TRACKEVAL = """

import contextlib, io, json, sys
import numpy as np
data = json.load(sys.stdin)
for name in ("gt_ids", "tracker_ids"):
    data[name] = [np.array(ids, int) for ids in data[name]]
pairs = zip(data["similarity_scores"], data["gt_ids"], data["tracker_ids"])
data["similarity_scores"] = [np.array(s, float).reshape(len(a), len(b)) for s, a, b in pairs]
with contextlib.redirect_stdout(io.StringIO()):
    from trackeval.metrics import CLEAR, HOTA, Identity
    clear, hota, identity = (kind().eval_sequence(data) for kind in (CLEAR, HOTA, Identity))
print(json.dumps({"HOTA": float(np.mean(hota["HOTA"])), "MOTA": float(clear["MOTA"]), "IDF1": float(identity["IDF1"]),
                  "switches": int(clear["IDSW"]), "missed": int(clear["CLR_FN"]), "wrong": int(clear["CLR_FP"])}))
"""


def read(path: Path) -> np.ndarray:
    """Read the rows (N, 7) of a MOTChallenge file: frame, number, left, top, width, height, score."""
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as lines of frame, number, left, top, width, height: {error}"
        ) from error
    if rows.shape[1] < 6:
        raise UserError(
            f"{path} has {rows.shape[1]} numbers a line: frame, number, left, top, width, height are needed"
        )
    return rows if rows.shape[1] > 6 else np.hstack([rows, np.ones((len(rows), 1))])


def tracked(rows: np.ndarray, frames: range, conf: float, kind: str = "bytetrack", images: str = "") -> np.ndarray:
    """Track detections in the form of `read`; returns the tracks in the same form.

    Args:
        rows: (N, 7).
        frames: the numbers of the frames.
        conf: score of a confident detection.
        kind: the name of a registered tracker.
        images: the folder of the frames' images, in order; "": the tracker gets none.
    """
    tracker, tracks = REGISTRIES["tracker"][kind](conf, TrackConfig(kind=kind)), []
    given = (frame.image for frame in open_source(images)) if images and tracker.uses_image else None
    for frame in frames:
        here = rows[:, 0] == frame
        boxes = xywh_to_xyxy(torch.from_numpy(rows[here, 2:6]))
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        image = (next(given),) if given else ()
        updated = tracker.update(Detections(boxes, torch.from_numpy(rows[here, 6]), labels), None, *image)
        for track, (left, top, right, bottom) in zip(updated.tracks.tolist(), updated.boxes.tolist(), strict=True):
            tracks.append((frame, track, left, top, right - left, bottom - top, 1.0))
    return np.array(tracks).reshape(-1, 7)


def detected(path: Path, category: str = "") -> np.ndarray:
    """Read detections, in the form of `read`, with scores from 0 to 1; of a json those of one category, "": all."""
    if path.suffix == ".json":
        return predicted(path, category, tracks=False)
    rows = read(path)
    rows[:, 6] /= max(rows[:, 6].max(initial=0), 1e-9)
    return rows


def predicted(path: Path, category: str = "", tracks: bool = True) -> np.ndarray:
    """Read detections.json of `detect predict`; an image's frame is the last number in its name.

    Args:
        path: the file.
        category: the class to read; "": all.
        tracks: whether it must have tracks. Without, they are not read.
    """
    rows = []
    for record in json.loads(path.read_text(encoding="utf-8")):
        if category and record["category"] != category:
            continue
        if tracks and "track_id" not in record:
            raise UserError(f"{path} has no tracks: it must come from detect predict --track")
        frame = record["frame"] + 1 if "frame" in record else int(re.findall(r"\d+", record["image"])[-1])
        rows.append((frame, record["track_id"] if tracks else -1, *record["bbox"], record["score"]))
    return np.array(rows).reshape(-1, 7)


def evaluate(ground_truth: np.ndarray, rows: np.ndarray, frames: range, python: str) -> dict[str, float]:
    """Evaluate the tracks `rows` with TrackEval, run by the interpreter `python`.

    Raises:
        UserError: If that interpreter fails.
    """
    data: dict[str, list] = {"gt_ids": [], "tracker_ids": [], "similarity_scores": []}
    numbers = [{n: i for i, n in enumerate(sorted(set(some[:, 1].tolist())))} for some in (ground_truth, rows)]
    for frame in frames:
        here = [some[some[:, 0] == frame] for some in (ground_truth, rows)]
        for name, some, index in zip(("gt_ids", "tracker_ids"), here, numbers, strict=True):
            data[name].append([index[n] for n in some[:, 1].tolist()])
        real, ours = (xywh_to_xyxy(torch.from_numpy(some[:, 2:6])) for some in here)
        data["similarity_scores"].append(iou(real, ours).tolist())
    counts = {"num_gt_dets": len(ground_truth), "num_tracker_dets": len(rows), "num_timesteps": len(frames)}
    counts |= {"num_gt_ids": len(numbers[0]), "num_tracker_ids": len(numbers[1])}
    done = subprocess.run([python, "-c", TRACKEVAL], input=json.dumps(data | counts), capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"--trackeval {python} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout)


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--gt", type=Path, required=True, metavar="FILE", help="ground truth")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tracks", type=Path, metavar="JSON", help="detections.json of `detect predict --track`")
    what.add_argument("--detections", type=Path, metavar="FILE", help="detections to track")
    parser.add_argument(
        "--tracker", nargs="+", choices=list(REGISTRIES["tracker"]), default=["bytetrack"], help="default: bytetrack"
    )
    parser.add_argument("--images", default="", metavar="FOLDER", help="the frames, for a tracker that follows them")
    parser.add_argument(
        "--category", default="", help="class of a detections.json to read, such as person; default: all"
    )
    parser.add_argument("--conf", type=float, default=0.25, help="confidence that starts a track; default: 0.25")
    parser.add_argument("--trackeval", required=True, metavar="PYTHON", help="interpreter with the package trackeval")
    options = parser.parse_args(arguments)
    ground_truth = read(options.gt)
    frames = range(int(ground_truth[:, 0].min()), int(ground_truth[:, 0].max()) + 1)
    kinds = options.tracker if options.detections else ["-"]
    for kind in kinds:
        rows = (
            tracked(detected(options.detections, options.category), frames, options.conf, kind, options.images)
            if options.detections
            else predicted(options.tracks, options.category)
        )
        metrics = evaluate(ground_truth, rows, frames, options.trackeval)
        print(json.dumps({"tracker": kind, "tracks": len(set(rows[:, 1].tolist())), **metrics}))


if __name__ == "__main__":
    sys.exit(main())
