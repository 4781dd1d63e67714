"""The metadata in an exported file: one JSON value under one key, in every format."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated

from detect.config.constraints import Choice, Range, Share, from_values
from detect.errors import UserError, unknown
from detect.models.base import ModelMetadata
from detect.models.legacy import current_header
from detect.models.weights import require_format, require_sound
from detect.registry import REGISTRIES
from detect.tasks import get_task
from detect.types import Postprocess

FORMAT = 2
KEY = "gridhead"


@dataclass(frozen=True)
class About:
    """How to run an exported model: its input is an image, letterboxed as `metadata.preprocess` describes.

    Attributes:
        model: name of the model.
        task: name of its task.
        metadata: that of the weights.
        outputs: names of the outputs.
        square: whether canvases are `metadata.size` x `metadata.size` pixels; else sides are multiples of `stride`.
        dynamic: whether a batch may have any size; else it is one image.
        conf: the least score to keep, before any calibration in `metadata`.
        suppressed: whether the file applies NMS with `conf`, `iou` and `max_det` itself; else they are for the reader.
        precision: float32, float16 or int8.
    """

    model: str
    task: str
    metadata: ModelMetadata
    outputs: list[str]
    square: bool = True
    dynamic: bool = False
    suppressed: bool = False
    precision: Annotated[str, Choice("float32", "float16", "int8")] = "float32"
    conf: Share = 0.25
    iou: Share = 0.7
    max_det: Annotated[int, Range(1, 1 << 24)] = 300
    stride: Annotated[int, Range(1, 1024)] = 32
    format: int = FORMAT

    def postprocess(self) -> Postprocess:
        """The postprocessing that the file was exported for."""
        conf = None if self.metadata.confidence else self.conf
        return self.metadata.postprocess(conf, self.iou, self.max_det)

    def text(self) -> str:
        """The JSON value."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def read(text: str | None, path: object) -> About:
        """Parse the metadata `text` of the file `path`. Raises UserError for a file of another program, or newer."""
        if not text:
            raise UserError(f"{path} was not written by detect export: it has no {KEY!r} among its metadata")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} has metadata that this version cannot read: {error}") from error
        if not isinstance(values, dict):
            raise UserError(f"{path} has metadata that this version cannot read: it is not a JSON object")
        require_format(values.get("format"), FORMAT, path)
        about = from_values(About, current_header(values), f"{path}: ")
        exportable = [name for name in REGISTRIES["task"] if get_task(name).export]
        if about.task not in exportable:
            raise unknown(f"value of {path}: task", about.task, exportable)
        require_sound(about.metadata, path)
        return about
