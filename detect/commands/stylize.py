"""`detect stylize`: give an image, or a share of a dataset's, the style of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from detect.config.constraints import Count, Natural, Range, ReadWith, Share, Side
from detect.errors import UserError
from detect.utils.locks import locked_files
from detect.utils.names import say
from detect.utils.progress import track

if TYPE_CHECKING:
    from torch import Tensor

    from detect.style.transfer import Terms


@dataclass(frozen=True)
class StylizeConfig:
    """Give an image the style of another (Gatys et al.), or make stylized copies of a dataset's images.

    Layers have the names that `detect info` prints, or the number of a stage.
    """

    style: list[str]
    """Image whose style is taken. Several, with --data: each copy takes one, drawn with --seed."""
    out: str
    """Image to write; with --data, folder to write the copies to."""
    content: str = ""
    """Image to stylize."""
    data: str = ""
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals. Copies of its
    images are stylized."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""
    split: Annotated[str, ReadWith("data")] = "train"
    """Split whose images are copied."""
    share: Annotated[Share, ReadWith("data")] = 1.0
    """Share of the images that are copied."""
    backbone: str = "squeezenet1_1"
    """Network whose feature maps are compared."""
    backbone_weights: str = ""
    """ImageNet weights of the backbone: a file."""
    pretrained: bool = False
    """Download torchvision's weights of the backbone."""
    pixels: Literal["auto", "unit", "imagenet", "half", "caffe", "tensorflow"] = "auto"
    """How pixels become numbers. Default: as the weights want it."""
    content_layer: str = ""
    """Layer whose feature map keeps the content. Default: a late one."""
    style_layers: list[str] = field(default_factory=list)
    """Layers whose feature statistics carry the style. Each may have a weight, NAME=0.5. Default: every stage,
    equally."""
    alpha: Annotated[float, Range(0)] = 1.0
    """Weight of the content loss."""
    beta: Annotated[float, Range(0)] = 100.0
    """Weight of the style loss."""
    tv: Annotated[float, Range(0)] = 0.1
    """Weight of the total variation, which smooths the image."""
    start: Literal["content", "noise"] = "content"
    """Image that the optimization starts from."""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """Optimizer of the pixels."""
    steps: Count = 100
    """Optimization steps."""
    imgsz: Side = 320
    """Longer side of the image while it is optimized, in pixels. Copies are enlarged to their original size again."""
    every: Annotated[Natural, ReadWith("content")] = 25
    """Write the image after every N steps. 0: only at the end."""
    seed: Natural = 0
    """Seed of noise, and of the choice of styles."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""


def stylize(config: StylizeConfig) -> list[Terms]:
    """Stylize an image, or make stylized copies of a dataset's images.

    Returns:
        The loss terms of the image before each step and after the last; nothing for a dataset.

    Raises:
        UserError: options exclude one another, or a file cannot be used.
    """
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
    """Write the image after every `every` steps and at the end, and print how the loss terms changed."""
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
    """Raise a UserError for options that exclude one another."""
    from detect.style.images import WRITTEN

    if bool(config.content) == bool(config.data):
        raise UserError("detect stylize needs --content, an image, or --data, a dataset: give one of the two")
    if not config.style:
        raise UserError("detect stylize needs --style, the image whose style is taken")
    if not config.alpha + config.beta + config.tv:
        raise UserError("--alpha, --beta and --tv are all 0, so nothing would change: give one of them a weight")
    if config.content and len(config.style) > 1:
        raise UserError("several --style are for --data, where each copy takes one: give one")
    if config.content and Path(config.out).suffix.lower() not in WRITTEN:
        raise UserError(
            f"--out {config.out}: name an image file to write, such as {Path(config.out).stem or 'out'}.png"
        )
    if config.content and Path(config.out).resolve() in {
        Path(one).resolve() for one in (config.content, *config.style)
    }:
        raise UserError(f"--out {config.out} is an image that is read: name another")
