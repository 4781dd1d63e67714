"""`detect info`: list the layers of a backbone or model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from detect.config.constraints import Count, Natural, Range, SideOrDefault
from detect.hub import find
from detect.hub.catalogue import catalogue
from detect.utils.atomic_io import replace_text
from detect.utils.locks import locked_files, under
from detect.utils.names import say


@dataclass(frozen=True)
class InfoConfig:
    """List the layers of a backbone or model: shapes, parameters, multiply-accumulates, receptive fields, strides.

    A backbone is shown as it was published, with its classification head.
    """

    positional: ClassVar = ("name",)

    name: str
    """Backbone, model, YAML file of a model, or published weights, such as resnet18. A backbone may have options:
    mobilenet_v1:width=0.5, efficientnet_b0:phi=0.5, or resnet50:stages=3, which keeps the first three stages."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: the size the network was made for; 640 for detectors."""
    classes: Natural = 0
    """Number of classes. Default: as published; 80 for detectors."""
    in_channels: Count = 3
    """Channels of the input."""
    dims: Annotated[int, Range(1, 3)] = 2
    """Dimensions of the input: 1 for signals, 2 for images, 3 for volumes (backbones only)."""
    json: str = ""
    """File to write the table to, as JSON."""


@under(lambda config: locked_files(config.json))
def info(config: InfoConfig) -> dict[str, Any]:
    """Print the layers of a backbone or model."""
    from detect.explain.summary import describe, option_names, table
    from detect.models.configs import shipped_names

    name, size, published = config.name, config.imgsz, find(config.name)
    if published and published.model != name and published.model in shipped_names():
        name, size = published.model, size or published.imgsz
        say(f"{config.name}: published weights of the model {name}")
    result = describe(name, size, config.classes, config.in_channels, config.dims)
    for line in table(result).split("\n"):
        say(line)
    if options := option_names(name):
        say(f"options: {options}")
    known = [one for one in catalogue().values() if one.model == name]
    if known:
        named = ", ".join(f"{one.name} ({one.metric} {one.score:.1f})" for one in known)
        say(f"published weights: {named}: see detect weights")
    if config.json:
        replace_text(Path(config.json), json.dumps(result, indent=1) + "\n")
    return result
