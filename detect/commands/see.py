"""`detect see`: look inside a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from detect.config.constraints import Count, Natural, Share
from detect.utils.locks import locked_folder, under


@dataclass(frozen=True)
class SeeConfig:
    """Explain a model on an HTML page: its filters, what excites each channel of a layer, and why it predicts what it
    does."""

    published: ClassVar = "picodet_s_416"  # what messages suggest as --weights

    weights: str
    """Weights: a file, or a name of `detect weights`."""
    data: str
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""
    layer: str = ""
    """Layer, by the name that detect info prints or the number of a stage. Default: the last feature map of the
    backbone."""
    source: str = ""
    """Image whose feature maps are shown. Default: the first one of the split."""
    out: str = "runs/see"
    """Folder to write see.html to."""
    split: str = "val"
    """Split whose image patches excite the channels."""
    channels: Count = 16
    """Channels to show, evenly chosen."""
    images: Count = 1000
    """Images to search for the nine patches that excite a channel most."""
    predictions: Natural = 3
    """Predictions to explain, those with the highest scores."""
    conf: Share = 0.25
    """Confidence threshold. Detections with a lower score are dropped."""
    iou: Share = 0.7
    """IoU threshold of NMS. Of two boxes of a class that overlap more, the lower-scored one is dropped."""
    batch: Count = 8
    """Images that go through the network together."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""


@under(lambda config: locked_folder(Path(config.out)))
def see(config: SeeConfig) -> Path:
    """Write see.html into --out; returns it. Raises UserError for a layer, model or image that cannot be shown."""
    from detect.explain.model_page import write_page

    return write_page(config)
