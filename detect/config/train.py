"""The configuration: frozen dataclasses that a YAML file and the command line fill; their ranges are `ranges`'.

This file imports neither torch nor numpy, so that `detect --help` and configuration errors are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from detect.config.constraints import (
    CallbackName,
    Choice,
    Count,
    Length,
    Natural,
    Positive,
    Precision,
    Range,
    Share,
    Side,
    Width,
)
from detect.config.optim import OptimConfig, refuse_unread, with_defaults
from detect.errors import UserError, unknown

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
    "localizer": "localize",
    "landmarker": "landmarks",
    "classifier": "classify",
    "embedder": "embed",
}

SEARCHED = ("fast_rcnn", "rcnn")  # kinds that look at regions which selective search proposes


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; a head uses those it has.

    `class_weights` is a weight a class (none: all equal). `smoothing`, of labels, is for classifiers; `class_kind`, for
    detectors, is the loss of each class of each prediction: binary cross-entropy or focal. `box_kind` l1, l2 and
    smooth_l1 are for localizers; `points` and `point_kind` are the weight and the kind of the loss of landmarks. An
    embedder has the loss `embed`, over pairs or over triplets that `mining` chooses; `margin` is how much farther
    others shall be, as a squared distance of triplets, or how far, as a distance, of contrastive pairs.
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
    embed: Annotated[str, Choice("triplet", "contrastive", "siamese")] = "triplet"
    mining: Annotated[str, Choice("random", "semi_hard", "batch_hard")] = "semi_hard"
    margin: Annotated[float, Range(0)] = 0.2
    class_weights: list[Positive] = field(default_factory=list)


@dataclass(frozen=True)
class ModelConfig:
    """A network. Backbone, neck, head and assigner are names; `levels` are exponents of the strides (3 is stride 8).

    `width` is the channels of neck and head, `depth` the residual blocks of a neck stage, `tower` the 3x3 convolutions
    of a head. `anchors` are widths and heights in pixels at the training size, by area; none: computed from the labels.
    A classifier is a backbone as it was published: of these it has `backbone`, `in_channels`, `padding` (auto: the
    published one at the published image size and above, "same" below) and `hidden`, the widths of new dense layers in
    the place of its last one. With `dims` 1 or 3 it classifies signals or volumes; the data then says `in_channels`. A
    sliding window of `window` pixels is such a network too (padding auto: none, "valid"); given `step`, the pixels
    between windows, it ends at the last stage of that stride, of which new dense layers (`hidden`) read the map. It
    trains on pieces of pictures `piece` times as long, sees each picture in sizes that shrink by `scale_step`, and with
    `regress` says how its box differs from it.
    `pooling` is how the R-CNN family cuts regions out of maps (rcnn itself warps pixels to `window`); `hidden` are the
    dense layers that then look at them. `graph` is the cfg of an imported Darknet network. `dimensions` are the
    numbers of an embedder's vector; with `step` half of them come from the map of the last stage of that stride, on a
    grid of 4 x 4. Given `mirror`, its vectors are of a picture and its mirror image together.
    """

    name: str = "yolo_n"
    kind: str = "yolo"
    backbone: str = "csp_n"
    neck: str = "pan"
    head: str = "point"
    assigner: str = "task_aligned"
    levels: Annotated[list[Annotated[int, Range(1, 7)]], Length(1, 7)] = field(default_factory=lambda: [3, 4, 5])
    width: Width = 64
    depth: Annotated[int, Range(1, 100)] = 1
    tower: Annotated[int, Range(0, 100)] = 1
    in_channels: Width = 3
    dims: Annotated[int, Range(1, 3)] = 2
    padding: Annotated[str, Choice("auto", "same", "paper", "valid")] = "auto"
    hidden: Annotated[list[Width], Length(0, 100)] = field(default_factory=list)
    window: Annotated[int, Range(1, 8192)] = 32
    step: Annotated[int, Range(0, 8192)] = 0
    piece: Annotated[float, Range(1, 4)] = 1.5
    scale_step: Annotated[float, Range(1.05, 4)] = 1.26
    regress: bool = True
    pooling: Annotated[str, Choice("align", "max")] = "align"
    anchors: list[Annotated[list[Positive], Length(2, 2)]] = field(default_factory=list)
    anchors_per_level: Annotated[int, Range(0, 1000)] = 3
    graph: Annotated[str, Length(0, 10**6)] = ""
    dimensions: Width = 128
    mirror: bool = False
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied. Probabilities are 0..1; hue, saturation and value are relative gains.

    `scale` s draws a zoom from [1 - s, 1 + s]; `translate` t shifts by up to t of the side; a box is kept when at least
    `visibility` of its area stays in the picture.

    `rotate` and `shear` are the largest angles in degrees; `perspective` p shows the near side of the canvas up to
    1 + p times as large as its middle; `warp` moves every pixel smoothly by up to that share of the side (local
    warping). They are drawn anew for each image, mosaic or crop. `crop` is the share of images that are cut to a random
    part, at least `crop_min` as wide and as high. All of them are off by default. A rotated box is the bounding box of
    the ellipse in it.

    `albumentations` is a list of {transform: arguments} that follow (it needs the extra `albumentations`;
    `rotate_method: largest_box` takes the four corners of a box);
    `transforms` is such a list of registered transforms, of a plugin say, which come next;
    `stylized` is a folder of copies that detect stylize made, one of which takes the place of its picture in the share
    `stylized_share` of the cases. `on` false leaves every image as it is.
    """

    on: bool = True
    mosaic: Share = 1.0
    mosaic_off: Natural = 10
    mixup: Share = 0.0
    scale: Share = 0.5
    translate: Share = 0.1
    rotate: Annotated[float, Range(0, 180)] = 0.0
    shear: Annotated[float, Range(0, 45)] = 0.0
    perspective: Annotated[float, Range(0, 0.3)] = 0.0
    warp: Annotated[float, Range(0, 0.05)] = 0.0
    crop: Share = 0.0
    crop_min: Annotated[float, Range(0.05, 1)] = 0.5
    flip: Share = 0.5
    hue: Share = 0.015
    saturation: Share = 0.7
    value: Share = 0.4
    visibility: Share = 0.1
    flip_pairs: list[list[int]] = field(default_factory=list)
    albumentations: list[dict[str, dict]] = field(default_factory=list)
    transforms: list[dict[str, dict]] = field(default_factory=list)
    stylized: str = ""
    stylized_share: Share = 0.2


@dataclass(frozen=True)
class TrainConfig:
    """Train the model that --model names for its task, or fine-tune the one in --weights.

    `task` (auto: the model's) need not be given; without a model it chooses one: classify takes resnet18.
    `backbone_weights` is a file for the backbone alone, `pretrained` fetches torchvision's; `pixels` is how images
    become numbers (auto: as the weights want). `freeze` keeps the first N stages of the backbone as they are (-1: all
    but the head), of which `thaw` frees one, the last, every so many epochs. `cache_features` computes what all but the
    head makes of each image once, into the folder `features` (none: one in `out`); augmentation is then off.
    `proposals` is the folder that keeps those of selective search (none: one in `out`), for several runs to share.

    `--resume RUN` alone goes on with the run in that folder, by the settings in its config.yaml; `--resume` beside the
    command that began a run does so too. Settings that change the steps to come (an optimizer's, augmentation, labels)
    are refused there unless `resume_anyway` is given: the run then ends otherwise than it would have.

    `batch` is images a step on each rank; `workers` -1 chooses by the machine; `patience` stops after that many epochs
    without a better AP or top-1 (0: never); `save_seconds` and `save_steps` write checkpoints inside an epoch (0: not);
    `callbacks`: callbacks and loggers. `balance` is for classes of unequal size: `weights` weighs
    the loss by one over their size; `sampling` draws them equally often or, for detectors, repeats images with a class
    that less than the share `repeat` of the images have. `each` is how many pictures of each person
    a batch of an embedder shows. `allow_outside`: also use files outside the folder of the data that its annotations,
    lists or links lead to.
    """

    data: str
    task: Annotated[str, Choice("auto", "detect", "localize", "landmarks", "keypoints", "classify", "embed")] = "auto"
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
    resume_anyway: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    deterministic: bool = False
    workers: Annotated[int, Range(-1)] = -1
    patience: Natural = 0
    multi_scale: Annotated[float, Range(0, 0.9)] = 0.0
    save_seconds: Annotated[float, Range(0)] = 300.0
    save_steps: Natural = 0
    skip_bad: bool = False
    allow_outside: bool = False
    balance: Annotated[str, Choice("none", "weights", "sampling")] = "none"
    repeat: Share = 0.1
    each: Annotated[int, Range(2)] = 4
    cache_gb: Annotated[float, Range(0)] = 4.0
    callbacks: list[CallbackName] = field(default_factory=list)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def with_task(config: TrainConfig) -> TrainConfig:
    """`config` with the task of its model in place of auto, and the defaults of its optimizer in place of None.

    Raises UserError for a task that is not the model's, a schedule that cannot be, or one that does not read what is
    set.
    """
    kind, name = config.model.kind, config.model.name
    if kind not in TASK_OF:
        raise unknown("model kind", kind, TASK_OF)
    if config.task not in ("auto", TASK_OF[kind]):
        raise UserError(f"--task is {config.task}, but model {name} is for --task {TASK_OF[kind]}")
    refuse_unread(config.optim)
    return replace(config, task=TASK_OF[kind], optim=with_defaults(config.optim))
