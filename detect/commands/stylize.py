"""`detect stylize`: give an image, or a share of a dataset's, the style of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from detect.config.constraints import Choice, Count, Natural, Range, Share, Side
from detect.errors import UserError
from detect.utils.locks import locked_files
from detect.utils.names import say
from detect.utils.progress import track

if TYPE_CHECKING:
    from torch import Tensor

    from detect.style.transfer import Terms


@dataclass(frozen=True)
class StylizeConfig:
    """Give a picture, `content`, the style of another; or a `share` of the pictures of `data`, a copy in `out` of each.

    `backbone_weights` is a file of ImageNet weights of `backbone`, `pretrained` fetches torchvision's; `pixels` is how
    images become numbers (auto: as the weights want). Layers go by the names that detect info prints, or by the number
    of a stage; `style_layers` may carry weights, NAME=0.5 (none named: every stage, alike). `alpha`, `beta` and `tv`
    weigh content, style and smoothness. `imgsz` is the longer side while it is worked on, which a copy keeps not. After
    every `every` steps the picture so far is written to `out` (0: only the last). Of several styles each copy has one,
    drawn with `seed`.
    `allow_outside`: also use files outside the folder of the data that its annotations, lists or links lead to.
    """

    style: list[str]
    out: str
    content: str = ""
    data: str = ""
    allow_outside: bool = False
    split: str = "train"
    share: Share = 1.0
    backbone: str = "squeezenet1_1"
    backbone_weights: str = ""
    pretrained: bool = False
    pixels: Annotated[str, Choice("auto", "unit", "imagenet", "half", "caffe", "tensorflow")] = "auto"
    content_layer: str = ""
    style_layers: list[str] = field(default_factory=list)
    alpha: Annotated[float, Range(0)] = 1.0
    beta: Annotated[float, Range(0)] = 100.0
    tv: Annotated[float, Range(0)] = 0.1
    start: Annotated[str, Choice("content", "noise")] = "content"
    optimizer: Annotated[str, Choice("lbfgs", "adam")] = "lbfgs"
    steps: Count = 100
    imgsz: Side = 320
    every: Natural = 25
    seed: Natural = 0
    device: str = "auto"


def stylize(config: StylizeConfig) -> list[Terms]:
    """Stylize as `config` says. Returns the terms of J before each step and after the last, of the one picture."""
    from detect.data.images import read_image
    from detect.style.artist import Stylizer
    from detect.style.stylized_copies import copy_all

    _refuse(config)
    styles = [read_image(path) for path in config.style]
    content = read_image(config.content) if config.content else None
    if content is None:
        copy_all(config, styles, Stylizer(config).paint)
        return []
    with locked_files(config.out, kind="image"):
        return _paint_one(config, Stylizer(config).paint(content, styles[0]))


def _paint_one(config: StylizeConfig, states: Iterator[tuple[Tensor, Terms]]) -> list[Terms]:
    """Write the one picture, and say how the terms of J changed."""
    from detect.data.image_writer import save_image
    from detect.style.images import to_image

    out = Path(config.out)
    terms: list[Terms] = []
    with closing(track(states, config.steps + 1, "stylize", lambda: f"J {sum(terms[-1].values()):.4f}")) as tracked:
        for step, (image, costs) in enumerate(tracked):
            terms.append(costs)
            if step == config.steps or (step and config.every and step % config.every == 0):
                save_image(out, to_image(image))
    for name in terms[0]:
        say(f"{name:<8}{terms[0][name]:10.4f} -> {terms[-1][name]:.4f}")
    first, last = (sum(costs.values()) for costs in (terms[0], terms[-1]))
    say(f"J       {first:10.4f} -> {last:.4f} in {config.steps} steps; see {out}")
    return terms


def _refuse(config: StylizeConfig) -> None:
    """Raises UserError for flags that do not go together."""
    from detect.style.images import WRITTEN

    if bool(config.content) == bool(config.data):
        raise UserError("detect stylize needs --content, a picture, or --data, a set of them: give one of the two")
    if not config.style:
        raise UserError("detect stylize needs --style, the picture whose style is wanted")
    if not config.alpha + config.beta + config.tv:
        raise UserError("--alpha, --beta and --tv are all 0, so that nothing would change: give one of them a weight")
    if config.content and len(config.style) > 1:
        raise UserError("several --style are for --data, where each copy has one: give one")
    if config.content and Path(config.out).suffix.lower() not in WRITTEN:
        raise UserError(f"--out {config.out}: name a picture to write, such as {Path(config.out).stem or 'out'}.png")
    if config.content and Path(config.out).resolve() in {
        Path(one).resolve() for one in (config.content, *config.style)
    }:
        raise UserError(f"--out {config.out} is a picture that is read: name another")
