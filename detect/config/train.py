"""The options of `detect train`. Importing this file imports neither torch nor numpy, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from detect.config.augment import AugmentConfig
from detect.config.constraints import (
    CallbackName,
    Count,
    Natural,
    Precision,
    Range,
    ReadWith,
    Registered,
    Share,
    Side,
)
from detect.config.fields import ADVANCED
from detect.config.optim import OptimConfig, refuse_unread, with_defaults
from detect.config.teacher import DistillConfig, PseudoConfig
from detect.errors import UserError
from detect.models.configs.base import ModelConfig
from detect.models.configs.yolo import YoloConfig


@dataclass(frozen=True)
class TrainConfig:
    """Train the model that --model names, or fine-tune the one in --weights.

    `--resume RUN` alone continues the run in that folder with the settings in its config.yaml; so does `--resume`
    beside the command that started a run. Settings that change the steps to come (optimizer, augmentation, labels) are
    rejected there unless --resume-anyway is given: the run then ends otherwise than it would have.
    """

    data: str
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals."""
    task: Annotated[str, Registered("task", others=("auto",))] = "auto"
    """Task. Default: the model's. Without a model it chooses one: classify takes resnet18."""
    model: ModelConfig = field(default_factory=YoloConfig)
    """Model: a name of detect info, or a YAML file."""
    auto: bool = False
    """Choose what is not given from the data, and say why. Published weights (which may be downloaded), image size,
    batch size, epochs, workers, and whether to mirror images."""
    find_lr: bool = False
    """Try learning rates, from low to high, and suggest one. Takes 100 steps in place of the training, and writes
    lr.svg and lr.jsonl into --out."""
    epochs: Count = 100
    """Passes over the training set."""
    imgsz: Side = 640
    """Image size in pixels."""
    batch: Count = 16
    """Images in a step, in each process."""
    global_batch: Annotated[Natural, ADVANCED] = 0
    """Images in a step of all processes, which share them equally. Such a run may be resumed by more or fewer
    processes. Default: --batch in each."""
    seed: Natural = 0
    """Seed of everything random. The same seed gives the same run."""
    out: str = "runs/train"
    """Folder of the run."""
    weights: str = ""
    """Weights to fine-tune: a file, or a name of `detect weights`."""
    backbone_weights: str = ""
    """Weights of the backbone alone: a file."""
    pretrained: bool = False
    """Download torchvision's weights of the backbone."""
    pixels: Annotated[Literal["auto", "unit", "imagenet", "half", "caffe", "tensorflow"], ADVANCED] = "auto"
    """How pixels become numbers. Default: as the weights want it."""
    init: Annotated[Literal["paper", "gaussian", "uniform", "xavier", "he"], ADVANCED] = "paper"
    """Initialization of layers that have no weights yet. Default: that of the paper."""
    teacher: str = ""
    """Detector that also teaches (distillation). Weights: a file, or a name of `detect weights`."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """Distillation with --teacher."""
    unlabelled: str = ""
    """Folder of images without labels. The model labels them for itself."""
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    """Pseudo-labels with --unlabelled."""
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
    check_first: Annotated[bool, ADVANCED] = False
    """Decode every image before the first step. Default: those of sets of 10,000 images or more are decoded during the
    first epoch, at whose end the run knows that none is broken; their headers are read before."""
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
    """Fill in what a model and an optimizer decide: the task instead of auto, learning rate and the like if unset.

    Raises:
        UserError: the task is not the model's, or the model, the optimizer or the schedule does not read what is set.
    """
    task = config.model.task
    if config.task not in ("auto", task):
        raise UserError(f"--task is {config.task}, but model {config.model.name} is for --task {task}")
    config.model.validate()
    refuse_unread(config.optim)
    return replace(config, task=task, optim=with_defaults(config.optim))
