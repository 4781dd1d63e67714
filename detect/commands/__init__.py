"""The commands: one module each, with a frozen dataclass `<Name>Config` and the function that takes it.

The modules import nothing heavy, so that help and errors in flags are quick: what needs torch is imported when a
command runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

# What the top help says of each command, in its order.
COMMANDS = {
    "demo": "run everything on an embedded toy dataset, in a few minutes",
    "train": "train or fine-tune a model",
    "tune": "search the settings of a training that are best on the validation set",
    "evaluate": "measure weights on a dataset split",
    "predict": "run a model on images, video or a stream",
    "bulk": "predict millions of images, here or on a Ray cluster",
    "label": "write predictions as labels to correct, and join corrected ones again",
    "embed": "build a gallery of known identities",
    "verify": "compare two images: the same identity?",
    "identify": "identify who is in each image, with a gallery",
    "serve": "serve a page for images, videos and the camera, or a live view of training",
    "report": "write the HTML report of a training run, or compare runs",
    "next": "choose which unlabelled images to label next",
    "check": "check a dataset before training on it",
    "mistakes": "find label errors: missing, spurious, wrong class, wrong box, duplicate",
    "anchors": "compute anchor boxes from labels by K-means",
    "weights": "list published weights, or download some",
    "import": "convert published weights of Darknet, YOLOX or PicoDet",
    "export": "write weights as ONNX, OpenVINO or TorchScript",
    "see": "explain a model: filters, feature maps, class activation",
    "stylize": "give images the style of another one",
    "info": "list the layers of a model or backbone",
}
_STEMS = {"import": "import_weights", "next": "next_images"}  # words of Python


def config_of(command: str) -> type:
    """The configuration dataclass of a command: `EvaluateConfig` of `evaluate`."""
    stem = _STEMS.get(command, command)
    kind: type = getattr(_module(stem), "".join(word.capitalize() for word in stem.split("_")) + "Config")
    return kind


def trains(command: str) -> bool:
    """Whether a command has all options of `detect train`."""
    from detect.config.train import TrainConfig

    return issubclass(config_of(command), TrainConfig)


def function_of(command: str) -> Callable[[Any], Any]:
    """The function that runs a command, given its configuration."""
    stem = _STEMS.get(command, command)
    function: Callable[[Any], Any] = getattr(_module(stem), stem)
    return function


def _module(stem: str) -> ModuleType:
    return importlib.import_module(f"detect.commands.{stem}")
