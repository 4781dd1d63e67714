"""`detect evaluate`: measure weights on a dataset split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from detect.config.constraints import Count, Precision, Range, Share, SideOrDefault
from detect.errors import UserError
from detect.utils.locks import locked_files, under


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a detector by the COCO protocol, a classifier, or an embedder. `imgsz` 0 is the size it was trained at.

    `tta` has a detector look at each picture in several sizes, and mirrored; `tile` at pictures larger than `imgsz` in
    tiles of that size too.

    Of classifiers several may be given: their probabilities are averaged, as they are over `crops` views of a picture:
    whole, mirrored, four corners, and their mirrors. `pairs` is a csv with columns a, b (files as in the data) and same
    (1 or 0): an embedder is then measured on these, else on all pairs of the split.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    weights: str
    data: str
    split: str = "val"
    imgsz: SideOrDefault = 0
    batch: Count = 16
    conf: Share = 0.001
    iou: Share = 0.7
    max_det: Count = 300
    crops: Annotated[int, Range(1, 10)] = 1
    tta: bool = False
    tile: bool = False
    json: str = ""
    detections: str = ""
    pairs: str = ""
    device: str = "auto"
    precision: Precision = "auto"
    workers: Annotated[int, Range(-1)] = -1
    skip_bad: bool = False
    allow_outside: bool = False


@under(lambda config: locked_files(config.json, config.detections))
def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measure weights on a split as their task is measured: detectors by the COCO protocol."""
    from detect.api import Detector
    from detect.cli.applicability import refuse_unused
    from detect.evaluation.evaluate import evaluate_models

    members = [Detector.load(path, config.device, config.precision) for path in config.weights.split(",")]
    tasks = {member.model.task for member in members}
    if len(tasks) > 1:
        raise UserError(f"--weights are of several tasks ({', '.join(sorted(tasks))}): evaluate them one by one")
    refuse_unused("evaluate", config, *tasks)
    return evaluate_models(config, members)
