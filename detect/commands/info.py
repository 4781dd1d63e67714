"""`detect info`: list the layers of a backbone or model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from detect.config.constraints import Count, Natural, Range, SideOrDefault
from detect.utils.atomic_io import replace_text
from detect.utils.locks import locked_files, under
from detect.utils.names import say


@dataclass(frozen=True)
class InfoConfig:
    """List the layers of a backbone or model: shapes, parameters, multiply-accumulates, receptive fields, strides.

    A backbone is shown whole, with the padding it was published with. `imgsz` 0 is the size it was made for, 640 for
    detectors; `classes` 0 the published number, 80 for detectors. `dims` 1 or 3 is for a backbone that looks at signals
    or volumes.
    """

    name: str
    imgsz: SideOrDefault = 0
    classes: Natural = 0
    in_channels: Count = 3
    dims: Annotated[int, Range(1, 3)] = 2
    json: str = ""


@under(lambda config: locked_files(config.json))
def info(config: InfoConfig) -> dict[str, Any]:
    """Print the layers of a backbone or model."""
    from detect.explain.summary import describe, table

    result = describe(config.name, config.imgsz, config.classes, config.in_channels, config.dims)
    for line in table(result).split("\n"):
        say(line)
    if config.json:
        replace_text(Path(config.json), json.dumps(result, indent=1) + "\n")
    return result
