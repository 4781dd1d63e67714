"""The configuration: frozen dataclasses that a YAML file and the command line fill; their ranges are `ranges`'.

This file imports neither torch nor numpy, so that `detect --help` and configuration errors are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from detect.errors import UserError, unknown
from detect.ranges import Choice, Count, Natural, Positive, Precision, Range, Share, Side

_HERE = Path(__file__).parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())


# The task of each kind of model: what it learns, how it is measured and what it answers.
TASK_OF = {
    "yolo": "detect",
    "yolo_points": "keypoints",
    "darknet": "detect",
    "yolox": "detect",
    "sliding_window": "detect",
    "faster_rcnn": "detect",
    "fast_rcnn": "detect",
    "rcnn": "detect",
    "localizer": "locate",
    "landmarker": "landmarks",
    "classifier": "classify",
}

SEARCHED = ("fast_rcnn", "rcnn")  # kinds that look at regions which selective search proposes


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; a head uses those it has.

    `class_weights` is a weight a class (none: all equal). `smoothing`, of labels, is for classifiers; `class_kind`, for
    detectors, is the loss of each class of each prediction: binary cross-entropy or focal. `box_kind` l1, l2 and
    smooth_l1 are for localizers; `points` and `point_kind` are the weight and the kind of the loss of landmarks.
    """

    box: Annotated[float, Range(0)] = 7.5
    code: Annotated[float, Range(0)] = 1.5
    classes: Annotated[float, Range(0)] = 0.5
    objectness: Annotated[float, Range(0)] = 1.0
    points: Annotated[float, Range(0)] = 1.0
    box_kind: Annotated[str, Choice("l1", "l2", "smooth_l1", "iou", "giou", "diou", "ciou")] = "ciou"
    point_kind: Annotated[str, Choice("wing", "smooth_l1")] = "wing"
    class_kind: Annotated[str, Choice("bce", "focal")] = "bce"
    smoothing: Share = 0.0
    class_weights: list[Positive] = field(default_factory=list)


@dataclass(frozen=True)
class ModelConfig:
    """A network. Backbone, neck, head and assigner are names; `levels` are exponents of the strides (3 is stride 8).

    `width` is the channels of neck and head, `depth` the residual blocks of a neck stage, `tower` the 3x3 convolutions
    of a head. `anchors` are widths and heights in pixels at the training size, by area; none: computed from the labels.
    A classifier is a backbone as it was published: of these it has `backbone`, `in_channels`, `padding` (auto: the
    published one at the published image size and above, "same" below) and `hidden`, the widths of new dense layers in
    the place of its last one. A sliding window of `window` pixels is such a network too (padding auto: none, "valid");
    it trains on pieces of pictures `piece` times as long, sees each picture in sizes that shrink by `scale_step`, and
    with `regress` says how its box differs from it.
    `pooling` is how the R-CNN family cuts regions out of maps (rcnn itself warps pixels to `window`); `hidden` are the
    dense layers that then look at them. `graph` is the cfg of an imported Darknet network.
    """

    name: str = "yolo_n"
    kind: str = "yolo"
    backbone: str = "csp_n"
    neck: str = "pan"
    head: str = "point"
    assigner: str = "task_aligned"
    levels: list[Annotated[int, Range(1, 7)]] = field(default_factory=lambda: [3, 4, 5])
    width: Count = 64
    depth: Count = 1
    tower: Natural = 1
    in_channels: Annotated[int, Range(1, 3)] = 3
    padding: Annotated[str, Choice("auto", "same", "paper", "valid")] = "auto"
    hidden: list[Count] = field(default_factory=list)
    window: Count = 32
    piece: Annotated[float, Range(1, 4)] = 1.5
    scale_step: Annotated[float, Range(1.05, 4)] = 1.26
    regress: bool = True
    pooling: Annotated[str, Choice("align", "max")] = "align"
    anchors: list[list[float]] = field(default_factory=list)
    anchors_per_level: Natural = 3
    graph: str = ""
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and schedule. `warmup` is in epochs; `clip` is the largest norm of the gradient (0: any).

    `momentum` is that of momentum, nesterov, rmsprop and muon, and Adam's first beta; sgd and adagrad have none.
    `final` is the last rate as a share of `lr` (cosine, linear, exponential, 1/t); `milestones` are the shares of the
    run at which the piecewise constant rate is multiplied by `gamma`; `accumulate` joins that many batches into one
    step; `layer_decay` multiplies the rate once for each stage from the head back.
    """

    name: Annotated[str, Choice("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "muon")] = "muon"
    lr: Positive = 0.002
    momentum: Share = 0.9
    weight_decay: Annotated[float, Range(0)] = 0.05
    schedule: Annotated[str, Choice("constant", "piecewise", "exponential", "1/t", "cosine", "linear")] = "cosine"
    final: Share = 0.01
    warmup: Annotated[float, Range(0)] = 3.0
    milestones: list[Share] = field(default_factory=lambda: [0.6, 0.85])
    gamma: Share = 0.1
    clip: Annotated[float, Range(0)] = 10.0
    accumulate: Count = 1
    layer_decay: Annotated[float, Range(1e-6, 1)] = 1.0
    ema: Share = 0.999


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied. Probabilities are 0..1; hue, saturation and value are relative gains.

    `scale` s draws a zoom from [1 - s, 1 + s]; `translate` t shifts by up to t of the side; a box is kept when at least
    `visibility` of its area stays in the picture. `albumentations` is a list of {transform: arguments};
    `on` false leaves every image as it is.
    """

    on: bool = True
    mosaic: Share = 1.0
    mosaic_off: Natural = 10
    mixup: Share = 0.0
    scale: Share = 0.5
    translate: Share = 0.1
    flip: Share = 0.5
    hue: Share = 0.015
    saturation: Share = 0.7
    value: Share = 0.4
    visibility: Share = 0.1
    flip_pairs: list[list[int]] = field(default_factory=list)
    albumentations: list[dict[str, dict]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainConfig:
    """Train the model that --model names for its task, or fine-tune the one in --weights.

    `task` (auto: the model's) need not be given; without a model it chooses one: classify takes resnet18.
    `backbone_weights` is a file for the backbone alone, `pretrained` fetches torchvision's; `pixels` is how images
    become numbers (auto: as the weights want). `freeze` keeps the first N stages of the backbone as they are (-1: all
    but the head), of which `thaw` frees one, the last, every so many epochs. `cache_features` computes what all but the
    head makes of each image once, into the folder `features` (none: one in `out`); augmentation is then off.
    `proposals` is the folder that keeps those of selective search (none: one in `out`), for several runs to share.

    `batch` is images a step on each rank; `workers` -1 chooses by the machine; `patience` stops after that many epochs
    without a better AP or top-1 (0: never); `save_seconds` and `save_steps` write checkpoints inside an epoch (0: not);
    `log` names further loggers: tensorboard, mlflow, wandb. `balance` is for classes of unequal size: `weights` weighs
    the loss by one over their size; `sampling` draws them equally often or, for detectors, repeats images with a class
    that less than the share `repeat` of the images have.
    """

    data: str
    task: Annotated[str, Choice("auto", "detect", "locate", "landmarks", "keypoints", "classify")] = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    epochs: Count = 100
    imgsz: Side = 640
    batch: Count = 16
    seed: Natural = 0
    out: str = "runs/train"
    weights: str = ""
    backbone_weights: str = ""
    pretrained: bool = False
    pixels: Annotated[str, Choice("auto", "unit", "imagenet", "half", "caffe", "tensorflow")] = "auto"
    init: Annotated[str, Choice("paper", "gaussian", "uniform", "xavier", "he")] = "paper"
    freeze: Annotated[int, Range(-1)] = 0
    thaw: Natural = 0
    cache_features: bool = False
    features: str = ""
    proposals: str = ""
    resume: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    deterministic: bool = False
    workers: Annotated[int, Range(-1)] = -1
    patience: Natural = 0
    multi_scale: Annotated[float, Range(0, 0.9)] = 0.0
    save_seconds: Annotated[float, Range(0)] = 300.0
    save_steps: Natural = 0
    skip_bad: bool = False
    balance: Annotated[str, Choice("none", "weights", "sampling")] = "none"
    repeat: Share = 0.1
    cache_gb: Annotated[float, Range(0)] = 4.0
    log: list[str] = field(default_factory=list)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a detector by the COCO protocol, or a classifier. `imgsz` 0 is the size it was trained at.

    `tta` has a detector look at each picture in several sizes, and mirrored; `tile` at pictures larger than `imgsz` in
    tiles of that size too.

    Of classifiers several may be given: their probabilities are averaged, as they are over `crops` views of a picture:
    whole, mirrored, four corners, and their mirrors.
    """

    weights: str
    data: str
    split: str = "val"
    imgsz: Natural = 0
    batch: Count = 16
    conf: Share = 0.001
    iou: Share = 0.7
    max_det: Count = 300
    crops: Annotated[int, Range(1, 10)] = 1
    tta: bool = False
    tile: bool = False
    json: str = ""
    detections: str = ""
    device: str = "auto"
    precision: Precision = "auto"
    workers: Annotated[int, Range(-1)] = -1
    skip_bad: bool = False


@dataclass(frozen=True)
class TrackConfig:
    """Following objects through frames (ByteTrack): see `PredictConfig.track`.

    Detections that score from `low` up to --conf carry on tracks but begin none; those at `margin` above --conf begin
    tracks. A track that is out of sight is looked for for `memory` frames.
    """

    low: Share = 0.1
    margin: Share = 0.1
    memory: Natural = 30


@dataclass(frozen=True)
class PredictConfig:
    """Find objects, or say the class, of an image, folder, glob, video, camera (its number) or stream (its URL).

    `classes` keeps only those names or numbers; `json` also prints the detections on standard output. `tta` and `tile`
    are those of evaluate. `track` follows objects through the frames of a video, or the pictures of a folder: only what
    belongs to a track is told, with its number. `lines` [[x, y, x, y], …] and `zones` [[x, y, x, y, x, y, …], …], in
    pixels, count the tracks that go through them.
    """

    weights: str
    source: str
    out: str = "runs/predict"
    imgsz: Natural = 0
    batch: Count = 1
    conf: Share = 0.25
    iou: Share = 0.7
    max_det: Count = 300
    agnostic: bool = False
    soft: bool = False
    classes: list[str] = field(default_factory=list)
    tta: bool = False
    tile: bool = False
    track: bool = False
    tracker: TrackConfig = field(default_factory=TrackConfig)
    lines: list[list[float]] = field(default_factory=list)
    zones: list[list[float]] = field(default_factory=list)
    vid_stride: Count = 1
    save_txt: bool = False
    save_crop: bool = False
    show: bool = False
    json: bool = False
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class CheckConfig:
    """Look through data before training on it: defects, duplicates, odd files, class balance, sizes, anchors.

    `splits` are looked at together (none named: train, val and test, those that there are). `imgsz` is the image size
    that training will have, `k` the number of anchors to try. Findings are printed; `json` and `page` name files for
    all of them. Nothing is written into the data.
    """

    data: str
    splits: list[str] = field(default_factory=list)
    imgsz: Side = 640
    k: Count = 9
    json: str = ""
    page: str = ""


@dataclass(frozen=True)
class ServeConfig:
    """Serve a page to drop pictures and videos on, at http://HOST:PORT; only this machine can reach it as it is.

    Uploads have `max_mb` megabytes and `seconds` at most, pictures `max_megapixels`; a video is looked at for `seconds`.
    `waiting` requests are kept waiting while one is worked on, more are turned away.
    """

    weights: str
    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65535)] = 8000
    imgsz: Natural = 0
    max_mb: Annotated[float, Range(0.01)] = 64.0
    max_megapixels: Annotated[float, Range(0.01)] = 64.0
    seconds: Annotated[float, Range(0.1)] = 60.0
    waiting: Count = 64
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class ReportConfig:
    """Write report.html into the folder `run` of a run, as training does at its end."""

    run: str
    device: str = "auto"


@dataclass(frozen=True)
class AnchorsConfig:
    """Compute anchor boxes from the labels by K-means over 1 - IoU."""

    data: str
    k: Count = 9
    imgsz: Side = 640
    split: str = "train"
    seed: Natural = 0
    json: str = ""
    skip_bad: bool = False


@dataclass(frozen=True)
class InfoConfig:
    """List the layers of a backbone or model: shapes, parameters, multiply-accumulates, receptive fields, strides.

    A backbone is shown whole, with the padding it was published with. `imgsz` 0 is the size it was made for, 640 for
    detectors; `classes` 0 the published number, 80 for detectors.
    """

    name: str
    imgsz: Annotated[int, Range(0, 8192)] = 0
    classes: Natural = 0
    in_channels: Annotated[int, Range(1, 3)] = 3
    json: str = ""


@dataclass(frozen=True)
class ImportConfig:
    """Make a weights file of a published one: Darknet's, with its cfg, or YOLOX's (.onnx or .pth).

    `names` is a file with the name of a class a line; without it the 80 of COCO are supposed. `imgsz` 0 is the size
    that the network was made for.
    """

    weights: str
    out: str
    cfg: str = ""
    names: str = ""
    imgsz: Annotated[int, Range(0, 8192)] = 0


@dataclass(frozen=True)
class ExportConfig:
    """Write weights as a file that other programs run, checked against torch on real pictures before it is there.

    `out` none is the weights' name with another suffix. `nms` puts suppression into the file, with `conf`, `iou` and
    `max_det`, which are otherwise written beside the classes for whoever reads it. `dynamic` leaves the batch, and for
    grid detectors the size, open; else it is one square picture of `imgsz` pixels (0: as trained). `half` and `int8`
    compute in fewer bits, the latter with ranges measured on training pictures of `data`; its `split` judges the file.
    """

    weights: str
    format: Annotated[str, Choice("onnx", "torchscript", "openvino")] = "onnx"
    out: str = ""
    imgsz: Annotated[int, Range(0, 8192)] = 0
    dynamic: bool = False
    nms: bool = False
    half: bool = False
    int8: bool = False
    data: str = ""
    split: str = "val"
    conf: Share = 0.25
    iou: Share = 0.7
    max_det: Count = 300


@dataclass(frozen=True)
class DemoConfig:
    """Do the whole job on the embedded set: data, anchors, training, evaluation, pictures, video."""

    out: str = "runs/demo"
    epochs: Count = 28
    seed: Natural = 0
    device: str = "auto"


def with_task(config: TrainConfig) -> TrainConfig:
    """`config` with the task of its model in place of auto. Raises UserError for one that is not the model's."""
    kind, name = config.model.kind, config.model.name
    if kind not in TASK_OF:
        raise unknown("model kind", kind, TASK_OF)
    if config.task not in ("auto", TASK_OF[kind]):
        raise UserError(f"--task is {config.task}, but model {name} is for --task {TASK_OF[kind]}")
    return replace(config, task=TASK_OF[kind])
