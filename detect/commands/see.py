"""`detect see`: look inside a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from detect.config.constraints import Count, Natural, Share
from detect.utils.locks import locked_folder, under


@dataclass(frozen=True)
class SeeConfig:
    """Look inside a model: a page of its filters, of what excites a layer's channels, and of why it said something.

    `layer` goes by the name that detect info prints, or the number of a stage (none: the last map). The nine patches
    that excite each of so many `channels`, evenly chosen, most are looked for in a `split` of `data`, the first
    `pictures` of it. `source` is the picture whose maps are shown (none: the first of the split), with why the
    `answers` of highest scores, from `conf` on, were given.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    weights: str
    data: str
    allow_outside: bool = False
    layer: str = ""
    source: str = ""
    out: str = "runs/see"
    split: str = "val"
    channels: Count = 16
    pictures: Count = 1000
    answers: Natural = 3
    conf: Share = 0.25
    iou: Share = 0.7
    batch: Count = 8
    device: str = "auto"


@under(lambda config: locked_folder(Path(config.out)))
def see(config: SeeConfig) -> Path:
    """Write see.html into --out; returns it. Raises UserError for a layer, model or picture that cannot be shown."""
    from detect.explain.model_page import write_page

    return write_page(config)
