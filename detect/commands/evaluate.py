"""`detect evaluate`: measure weights on a dataset split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from detect.config.constraints import Count, Precision, Range, ReadWith, Share, ShareOrUnset, SideOrDefault
from detect.config.fusion import FusionConfig
from detect.config.protocol import ProtocolConfig
from detect.errors import UserError
from detect.utils.locks import locked_files, under


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate weights on a dataset split.

    Boxes, masks, oriented boxes and keypoints are measured by the COCO protocol, classes of pixels by IoU, classifiers
    by accuracy, landmarkers by normalized error, embedders by verification of pairs.
    """

    published: ClassVar = "picodet_s_416"  # what messages suggest as --weights

    instead: ClassVar = {"weights": "results"}  # what may be given in place of a required option

    weights: list[str]
    """Weights: files, exported ones, or names of `detect weights`. Several classifiers: their probabilities are
    averaged. Several detectors: their boxes are fused. Several embedders: their squared distances are averaged."""
    data: str
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals."""
    results: str = ""
    """COCO results file to evaluate instead of --weights: boxes, masks, keypoints or oriented boxes of the images of
    the split, from whatever made them."""
    split: str = "val"
    """Split to evaluate: val, test or train."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: the training size."""
    batch: Count = 16
    """Images that go through the network together."""
    conf: Share = 0.001
    """Confidence threshold. Detections with a lower score are dropped; the COCO protocol wants it low."""
    iou: Share = 0.7
    """IoU threshold of NMS. Of two boxes of a class that overlap more, the lower-scored one is dropped."""
    max_det: Count = 300
    """Most detections in an image. AP counts the best 100."""
    boundary: bool = False
    """Also measure masks by the IoU of their boundaries, which tells how well the outlines of large objects fit."""
    crops: Annotated[int, Range(1, 10)] = 1
    """Views of an image that a classifier averages. In this order: whole, mirrored, the four corners, their mirror
    images."""
    tta: bool = False
    """Test-time augmentation: several sizes and mirror images."""
    tile: bool = False
    """Predict in overlapping tiles where an image is larger than --imgsz."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How the results of several --weights become one result."""
    resamples: Annotated[int, Range(-1)] = -1
    """Resamples of the images that give each number its 95 % interval (bootstrap). Default: 1000, fewer for many
    images; 0: no intervals."""
    against: str = ""
    """Weights, exported file or COCO results file to compare with: differences of all numbers, their 95 % intervals and
    paired tests, and the classes and images that carry them."""
    slice: list[str] = field(default_factory=list)
    """Parts of the split to give numbers of. By size, aspect, folder, brightness, crowding, or a key of the COCO image
    records."""
    slice_table: Annotated[str, ReadWith("slice")] = ""
    """CSV file with columns to slice by. One column, image, holds file names."""
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    """How detections are matched and counted."""
    page: str = ""
    """File to write a page of the evaluation to, as HTML: curves, classes, errors and images. It opens offline."""
    examples: Annotated[int, Range(1), ReadWith("page")] = 8
    """Images of each sort on the page: the best, the worst and the most surprising ones."""
    target_precision: ShareOrUnset = None
    """Wanted precision: prints the confidence thresholds that reach it at IoU 0.5, for all classes and for each."""
    target_recall: ShareOrUnset = None
    """Wanted recall: prints the confidence thresholds that reach it at IoU 0.5, for all classes and for each."""
    guarantee: list[str] = field(default_factory=list)
    """Guaranteed recall: recall and a number, as in recall 0.95. Prints the confidence threshold with which so many of
    the objects of a new image are found on average at IoU 0.5, and what it costs; one for all classes."""
    save_thresholds: str = ""
    """Weights file to write: --weights with a confidence threshold for each class. They are those of a target, of
    --guarantee, or of the best F1; predict, serve and export then use them where no --conf is given."""
    save_calibration: str = ""
    """Weights file to write: --weights with confidences calibrated on the split, so that of the detections with 0.8
    about 80 % are right. AP and accuracy stay; predict, evaluate, serve and export use it."""
    calibration: Annotated[Literal["auto", "isotonic", "temperature"], ReadWith("save_calibration")] = "auto"
    """How confidences are calibrated. A rising line for each class (isotonic), or logits divided by a temperature.
    Default: isotonic for detectors, temperature for classifiers."""
    json: str = ""
    """File to write the metrics to, as JSON."""
    detections: str = ""
    """File to write the predictions to, as COCO results."""
    pairs: str = ""
    """CSV file of pairs for an embedder. Columns: a, b (images) and same (1 or 0). Default: all pairs of the split."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""
    workers: Annotated[int, Range(-1)] = -1
    """Processes that load data. Default: chosen by the machine; 0: none."""
    skip_bad: bool = False
    """Leave out broken images and annotations, and list them."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""


@contextmanager
def _locks(config: EvaluateConfig) -> Iterator[None]:
    with (
        locked_files(config.json, config.detections),
        locked_files(config.page, kind="page"),
        locked_files(config.save_thresholds, config.save_calibration, kind="weights"),
    ):
        yield


@under(_locks)
def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measure weights on a split as their task is measured: detectors by the COCO protocol."""
    for flag, name in (("against", config.against), ("slice-table", config.slice_table)):
        if Path(name).suffix and not Path(name).exists():  # said before anything is computed
            raise UserError(f"--{flag} {name}: there is no such file; check the path")
    if config.results:
        from detect.evaluation.results_file import evaluate_results

        return evaluate_results(config)
    from detect.api import Detector
    from detect.cli.applicability import refuse_unused
    from detect.ensemble import joined
    from detect.evaluation.evaluate import evaluate_models
    from detect.tasks import get_task

    members = [Detector.load(path, config.device, config.precision) for path in config.weights]
    tasks = {member.model.task for member in members}
    if len(tasks) > 1:
        raise UserError(f"--weights are of several tasks ({', '.join(sorted(tasks))}): evaluate them one by one")
    refuse_unused("evaluate", config, *tasks)
    if get_task(*tasks).fuse:
        members = [joined(members, config.weights, config.fusion)]
    return evaluate_models(config, members)
