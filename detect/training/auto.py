"""What `detect train --auto` chooses: from statistics of the data and the machine to settings, each with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detect.utils.names import counted

if TYPE_CHECKING:
    from detect.hub.catalogue import Published

CELLS = 3  # cells of the finest feature map that an object should cover in width and height
SMALLEST = 320  # pixels: below this a smaller image saves little, and a small one may be enlarged to it
STEPS = {True: 1000, False: 4000}  # a run from published weights, and one from scratch
EPOCHS = {True: (10, 300), False: (30, 300)}
KNOWN_CLASSES = (
    0.1  # of the default learning rate, where the weights know all classes: PicoDet-S, whose AP on people is
)
# 0.483 untrained, has 0.41 to 0.43 after an epoch at the default and 0.47 at a tenth of it
STEPS_PER_EPOCH = 16  # fewer make the epochs of a small dataset too coarse
SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])", re.IGNORECASE)


class Choice(NamedTuple):
    """The value of an option, and why."""

    value: Any
    reason: str


@dataclass(frozen=True, eq=False)
class Data:
    """Statistics of a training set.

    Attributes:
        images: number of images, or of crops where each is a sample.
        sides: (I,) longer sides of the images or crops, in pixels.
        boxes: (N,) square roots of the areas of the boxes, as shares of the longer sides of their images.
        names: class names.
    """

    images: int
    sides: np.ndarray
    boxes: np.ndarray
    names: Sequence[str]


@dataclass(frozen=True)
class Machine:
    """Where the run computes: "CPU" or "GPU", bytes of its free memory, and processes that may load data."""

    device: str
    memory: int
    workers: int

    @property
    def gpu(self) -> bool:
        """Whether a large network and large images are affordable."""
        return self.device == "GPU"


@dataclass(frozen=True)
class Network:
    """What is known of the model.

    Attributes:
        finest: stride of its finest feature map, in pixels.
        coarsest: stride of its coarsest one, which image sizes are multiples of.
        size: image size where nothing else decides: that of its task or weights.
        from_boxes: whether it finds objects of any size in an image, so that they decide the image size.
        memory: bytes that training takes for each pixel of an image; 0: unknown.
        batch: batch size where memory and data allow it.
        pretrained: whether training starts from weights of a whole model.
        known: whether these weights have all classes of the data.
        lr: default learning rate of the optimizer.
    """

    finest: int
    coarsest: int
    size: int
    from_boxes: bool
    memory: float
    batch: int
    pretrained: bool
    known: bool = False
    lr: float = 0.0


def choose(data: Data, machine: Machine, network: Network, given: Mapping[str, Any]) -> dict[str, Choice]:
    """Choose the settings that decide most and that beginners get wrong.

    Args:
        data: statistics of the training set.
        machine: device, memory and cores.
        network: strides and memory of the model.
        given: what the user has set, by dotted option; such a value stays, and the others follow from it.

    Returns:
        The choice for each option, in the order in which they follow from one another.
    """
    found = dict[str, Choice]()

    def settle(option: str, choice: Choice) -> Any:
        found[option] = Choice(given[option], "yours") if option in given else choice
        return found[option].value

    size = settle("imgsz", image_size(data, machine, network))
    batch = settle("batch", batch_size(data, machine, network, size))
    settle("epochs", epochs(data.images, batch, network.pretrained))
    if network.known:
        settle("optim.lr", learning_rate(network.lr))
    settle("workers", Choice(machine.workers, "half of the processor's cores, at most 8"))
    settle("augment.flip", flip(data.names))
    return found


def image_size(data: Data, machine: Machine, network: Network) -> Choice:
    """The size at which most boxes cover `CELLS` cells, as far as the images' own pixels and the cost allow.

    The cost grows with the square: a CPU considers three quarters of the boxes and stops at 640 px, a GPU nine tenths
    and 1280.
    """
    own = float(np.median(data.sides))
    if not network.from_boxes:
        largest = float(np.quantile(data.sides, 0.9))
        if largest >= network.size:
            return Choice(network.size, "the default of this kind of model")
        size = min(network.size, max(32, _multiple(largest, 32)))
        return Choice(size, f"nine tenths of the images have at most {largest:.0f} px")
    if not len(data.boxes):
        return Choice(network.size, "the default, for there are no boxes to measure")
    share, words, limit = (0.9, "nine tenths", 1280) if machine.gpu else (0.75, "three quarters", 640)
    small = float(np.quantile(data.boxes, 1 - share))
    need, least = network.finest * CELLS, min(own, SMALLEST)
    size = _multiple(min(max(need / max(small, 1e-6), least), max(own, SMALLEST), limit), network.coarsest)
    seen = f"{words} of the boxes are then {small * size:.0f} px or larger"
    wish = f"; {need} px would be better, but " if small * size < 0.95 * need else ""
    why = f"more than {limit} px are slow on a {machine.device}" if size >= limit else f"the images have {own:.0f} px"
    return Choice(size, f"{seen} (a cell of the finest feature map: {network.finest} px){wish}{why if wish else ''}")


def batch_size(data: Data, machine: Machine, network: Network, size: int) -> Choice:
    """A power of two: the usual batch, fewer where memory is short or the dataset so small that epochs have few steps.

    Half of the free memory is used: what an image needs is an estimate.
    """
    batch = network.batch * (2 if machine.gpu and data.images >= 64 * network.batch else 1)
    each = network.memory * size * size
    fits = int(machine.memory / 2 / each) if each else batch
    enough = max(4, data.images // STEPS_PER_EPOCH)
    value = max(2, min(batch, _power(fits), _power(enough)))
    if _power(fits) <= value < batch:
        room = f"{machine.memory / 2**30:.1f} GB of memory are free, an image takes about {each / 2**20:.0f} MB"
        return Choice(value, f"{room}, and half of the memory is left alone")
    if value < batch:
        return Choice(
            value, f"{counted(math.ceil(data.images / value), 'step')} an epoch from {counted(data.images, 'image')}"
        )
    return Choice(value, f"the usual size, which fits into {machine.memory / 2**30:.1f} GB of free memory")


def epochs(images: int, batch: int, pretrained: bool) -> Choice:
    """As many as a budget of steps allows, within limits."""
    steps, (least, most) = math.ceil(images / batch), EPOCHS[pretrained]
    value = min(most, max(least, math.ceil(STEPS[pretrained] / steps)))
    start = "from trained weights" if pretrained else "from scratch"
    reason = f"{value * steps:,} steps of {batch} images; {start} about {STEPS[pretrained]:,} are needed"
    short = value * steps < STEPS[pretrained]
    return Choice(value, reason + f", but --auto chooses {most} epochs at most" * short)


def learning_rate(default: float) -> Choice:
    """The learning rate for weights that know all classes of the data: there is little to learn, and much to forget."""
    value = float(f"{KNOWN_CLASSES * default:.2g}")
    return Choice(value, f"the weights know all of the classes, and the default of {default:g} would make them forget")


def flip(names: Sequence[str]) -> Choice:
    """Mirror images, unless the name of a class says that it has a side."""
    sided = [name for name in names if SIDE.search(name.replace("_", " "))]
    if sided:
        return Choice(0.0, f"no mirror images: they would be wrong for class {sided[0]}")
    return Choice(0.5, "no class name says left or right; if a mirror image is wrong all the same: --augment.flip 0")


def choose_weights(
    data: Data, machine: Machine, offers: Sequence[Published], model: str = "", size: int = 0
) -> Choice | None:
    """The published weights whose training size is nearest to the one this data needs; of these the most accurate.

    Args:
        data: statistics of the training set.
        machine: where no model is given, a CPU takes detectors of up to 2 million parameters, a GPU up to 10.
        offers: what can be had, all of the task in question.
        model: the model that they have to be of; "": any detector.
        size: image size in pixels; 0: by the boxes.

    Returns:
        A name of the catalogue; None: nothing suits.
    """
    most = 10 if machine.gpu else 2
    usual = Network(finest=8, coarsest=32, size=640, from_boxes=True, memory=0, batch=16, pretrained=True)
    size = size or image_size(data, machine, usual).value
    suitable = [one for one in offers if one.model == model or (not model and one.parameters <= most)]
    if not model:
        suitable = [one for one in suitable if one.metric == "AP"]  # others cannot be compared
    if not suitable:
        return None
    best = min(suitable, key=lambda one: (abs(math.log(one.imgsz / size)), -one.score))
    suits = f"the published weights of {model}" if model else f"the best for about {size} px on a {machine.device}"
    return Choice(best.name, f"{suits}: {best.metric} {best.score:g} by {best.publisher}")


def _multiple(side: float, of: int) -> int:
    """The least multiple that is not below `side`, give or take a pixel."""
    return of * max(1, math.ceil((side - 1) / of))


def _power(number: int) -> int:
    """The greatest power of two that is not above `number`; 1 for less."""
    return 1 << max(0, int(number).bit_length() - 1)
