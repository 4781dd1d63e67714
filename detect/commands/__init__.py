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
    "demo": "the whole job on the embedded set, in a few minutes",
    "train": "train a detector on COCO, YOLO or VOC data, or a classifier",
    "evaluate": "measure a detector (COCO's twelve numbers) or a classifier",
    "predict": "draw what is found in images, video or a stream, or its class",
    "embed": "store the vectors of known people in a gallery",
    "verify": "say whether two pictures show one person",
    "identify": "say who of a gallery is in pictures",
    "serve": "a local page to drop pictures and videos on",
    "report": "write report.html of a run, which opens offline",
    "check": "look through data before training on it",
    "anchors": "compute anchor boxes from labels by K-means",
    "import": "make a weights file of Darknet's or YOLOX's",
    "export": "write weights as ONNX, OpenVINO or TorchScript",
    "see": "look inside: filters, what excites a layer, why it fired",
    "stylize": "give pictures the style of another one",
    "info": "list the layers of a backbone or model",
}
_STEMS = {"import": "import_weights"}  # import is a word of Python


def config_of(command: str) -> type:
    """The configuration dataclass of a command: `EvaluateConfig` of `evaluate`."""
    stem = _STEMS.get(command, command)
    kind: type = getattr(_module(stem), "".join(word.capitalize() for word in stem.split("_")) + "Config")
    return kind


def function_of(command: str) -> Callable[[Any], Any]:
    """The function that runs a command, given its configuration."""
    stem = _STEMS.get(command, command)
    function: Callable[[Any], Any] = getattr(_module(stem), stem)
    return function


def _module(stem: str) -> ModuleType:
    return importlib.import_module(f"detect.commands.{stem}")
