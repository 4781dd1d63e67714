"""The configuration: frozen dataclasses that a YAML file and the command line fill; their ranges are `ranges`'.

This file imports neither torch nor numpy, so that `detect --help` and configuration errors are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from detect.config.augment import AugmentConfig
from detect.config.constraints import (
    CallbackName,
    Choice,
    Count,
    Length,
    Natural,
    Positive,
    Precision,
    Range,
    ReadWith,
    Registered,
    Share,
    Side,
    Width,
)
from detect.config.fields import ADVANCED
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
class TrainConfig:
    """Train the model that --model names, or fine-tune the one in --weights.

    `--resume RUN` alone continues the run in that folder with the settings in its config.yaml; so does `--resume`
    beside the command that started a run. Settings that change the steps to come (optimizer, augmentation, labels) are
    rejected there unless --resume-anyway is given: the run then ends otherwise than it would have.
    """

    data: str
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals."""
    task: Annotated[str, Registered("task", "auto")] = "auto"
    """Task. Default: the model's. Without a model it chooses one: classify takes resnet18."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Model: a name of detect info, or a YAML file."""
    epochs: Count = 100
    """Passes over the training set."""
    imgsz: Side = 640
    """Image size in pixels."""
    batch: Count = 16
    """Images in a step, in each process."""
    seed: Natural = 0
    """Seed of everything random. The same seed gives the same run."""
    out: str = "runs/train"
    """Folder of the run."""
    weights: str = ""
    """Weights file to fine-tune."""
    backbone_weights: str = ""
    """Weights of the backbone alone: a file."""
    pretrained: bool = False
    """Download torchvision's weights of the backbone."""
    pixels: Literal["auto", "unit", "imagenet", "half", "caffe", "tensorflow"] = "auto"
    """How pixels become numbers. Default: as the weights want it."""
    init: Annotated[Literal["paper", "gaussian", "uniform", "xavier", "he"], ADVANCED] = "paper"
    """Initialization of layers that have no weights yet. Default: that of the paper."""
    freeze: Annotated[int, Range(-1)] = 0
    """Backbone stages to freeze; -1: all but the head."""
    unfreeze_every: Annotated[Natural, ReadWith("freeze")] = 0
    """Unfreeze one more stage every N epochs. From the head back; 0: never."""
    cache_features: Annotated[bool, ADVANCED] = False
    """Compute the output of the frozen layers once for each image, without augmentation. Needs --freeze -1."""
    features: Annotated[str, ReadWith("cache_features", "true"), ADVANCED] = ""
    """Folder of these outputs, which several runs may share. Default: one in --out."""
    proposals: Annotated[str, ADVANCED] = ""
    """Folder of the regions that selective search proposes, which several runs may share. Default: one in --out."""
    resume: bool = False
    """Continue the run in --out, or the run RUN with --resume RUN."""
    resume_anyway: Annotated[bool, ReadWith("resume", "true"), ADVANCED] = False
    """Resume with changed settings too, though the run then ends otherwise than it would have."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""
    deterministic: bool = False
    """Same bits in every run on a GPU too, which is slower."""
    workers: Annotated[int, Range(-1)] = -1
    """Processes that load data. Default: chosen by the machine; 0: none."""
    patience: Natural = 0
    """Stop after N epochs without a better metric. 0: never."""
    multi_scale: Annotated[float, Range(0, 0.9)] = 0.0
    """Train at image sizes up to this share smaller and larger."""
    save_seconds: Annotated[float, Range(0), ADVANCED] = 300.0
    """Save a checkpoint every N seconds within an epoch. 0: only at its end."""
    save_steps: Annotated[Natural, ADVANCED] = 0
    """Save a checkpoint every N steps within an epoch. 0: only at its end."""
    skip_bad: bool = False
    """Leave out broken images and annotations, and list them."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Remedy for rare classes. With weights, the loss of a class weighs one over its number of examples; with sampling,
    all classes are drawn equally often or, for detectors, images with rare classes repeatedly."""
    repeat: Annotated[Share, ReadWith("balance", "sampling"), ADVANCED] = 0.1
    """Images are repeated if they have a class that fewer than this share of the images have."""
    images_per_identity: Annotated[int, Range(2)] = 4
    """Images of each identity in a batch. For embedders (P x K sampling)."""
    cache_gb: Annotated[float, Range(0)] = 4.0
    """Memory for decoded images, in gigabytes."""
    callbacks: list[CallbackName] = field(default_factory=list)
    """Callbacks and loggers."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and learning-rate schedule."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of the training images."""


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
    task: Any = TASK_OF[kind]
    return replace(config, task=task, optim=with_defaults(config.optim))
