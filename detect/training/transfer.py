"""Transfer learning: the initial weights of a model, and which of its stages are frozen in which epoch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from detect.config.constraints import from_values
from detect.config.fill import plain
from detect.config.train import TrainConfig
from detect.convert.open import open_weights
from detect.errors import UserError
from detect.hub import resolve
from detect.models.backbones.base import Staged
from detect.models.base import Model, ModelMetadata
from detect.models.class_transfer import named_tensors, places
from detect.models.configs.backbone_names import split
from detect.models.pretrained import PIXELS, download, pixels_of, read_state
from detect.models.weights import is_ours, read_weights, transfer
from detect.training.run_record import PREPROCESSING, Record
from detect.types import Preprocess
from detect.utils.names import say

LISTED = 12  # names that a line has of those that need no attention


class Source(NamedTuple):
    """Initial weights.

    Attributes:
        name: what messages call them.
        tensors: by name.
        pixels: the preprocessing that they expect.
        part: "model" (all of a weights file), "backbone" (its backbone) or "published" (a backbone under the
            names that its authors gave).
        folded: as in `ModelMetadata`.
        metadata: of a whole model; None for weights of a backbone.
    """

    name: str
    tensors: dict[str, Tensor]
    pixels: Preprocess
    part: str
    folded: bool = False
    metadata: ModelMetadata | None = None


def find_source(config: TrainConfig) -> Source | None:
    """Read the initial weights that the settings name.

    Returns:
        The weights; None: there are none.

    Raises:
        UserError: several are named, or they cannot be read.
    """
    given = [flag for flag in ("weights", "backbone_weights", "pretrained") if getattr(config, flag)]
    if len(given) > 1:
        flags = " and ".join(f"--{flag.replace('_', '-')}" for flag in given)
        raise UserError(f"{flags} exclude one another: give one")
    if config.weights:
        _, metadata, tensors = open_weights(resolve(config.weights))
        return Source(f"--weights {config.weights}", tensors, metadata.preprocess, "model", metadata.folded, metadata)
    backbone, _ = split(config.model.backbone)  # a variant takes what fits of the published weights
    if config.pretrained:
        return Source(f"--pretrained {backbone}", download(backbone), pixels_of(backbone), "published")
    if not config.backbone_weights:
        return None
    name, path = f"--backbone-weights {config.backbone_weights}", resolve(config.backbone_weights)
    if is_ours(path):
        _, metadata, tensors = read_weights(path)
        return Source(name, tensors, metadata.preprocess, "backbone", metadata.folded)
    return Source(name, read_state(path), pixels_of(backbone, path), "published")


def kept_preprocess(before: Record, config: TrainConfig) -> Preprocess | None:
    """The preprocessing of a run that is resumed; None where the initial weights or `--pixels` decide it anew.

    The initial weights need not be read again where they are the same: what they gave is in the checkpoint.
    """
    of_run = ("weights", "backbone_weights", "pretrained", "pixels")
    if PREPROCESSING not in before or any(before.get(name) != plain(name, getattr(config, name)) for name in of_run):
        return None
    return from_values(Preprocess, dataclasses.asdict(Preprocess()) | before[PREPROCESSING], f"{PREPROCESSING}: ")


def choose_pixels(config: TrainConfig, source: Source | None) -> Preprocess:
    """The preprocessing: that of `--pixels`, else the one that the weights expect."""
    if config.pixels != "auto":
        return PIXELS[config.pixels]
    return source.pixels if source else Preprocess()


def begin(model: Model, source: Source, tell: bool) -> list[str]:
    """Copy what fits from initial weights into a model.

    Args:
        model: changed in place.
        source: the weights.
        tell: whether to print what was taken, what was not, and why.

    Returns:
        Names of the tensors that keep their initial values.

    Raises:
        UserError: nothing fits.
    """
    tensors = source.tensors
    if source.part != "model":
        prefix, net = next((n, m) for n, m in model.named_children() if isinstance(m, Staged))
        if source.part == "backbone":
            theirs = tuple(f"{name}.stages." for name in ("backbone", "network"))
            found = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(theirs)}
        elif not net.names:
            raise UserError(f"{source.name}: backbone {model.config.backbone} has no published weights: nothing fits")
        else:
            found = net.renamed(tensors)
        known = set(net.names.values())
        rest = {k: v for k, v in tensors.items() if source.part == "published" and k not in known}
        tensors = {f"{prefix}.{k}": v for k, v in found.items()} | rest
    moved = transfer(model, tensors, source.metadata)
    if not moved.taken:
        raise UserError(f"{source.name}: nothing in it fits {model.config.name}; name its --model")
    if tell:
        left = f"{len(moved.left)} keep their initial values, {len(moved.extra)} of the file are not used"
        say(f"{source.name}: {len(moved.taken)} tensors taken, {left}", sys.stderr)
        for line in _named(model, source.metadata, set(moved.taken)):
            say(line, sys.stderr)
        for line in _not_taken(moved.left | moved.extra):
            say(line, sys.stderr)
    return list(moved.left)


def _not_taken(reasons: Mapping[str, str]) -> Iterator[str]:
    """A line for each tensor and its reason; one for all that share a reason if they are more than two."""
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, why in reasons.items() if why == reason]
        listed = [f"{names[0]} and {len(names) - 1} more"] if len(names) > 2 else names
        yield from (f"  not taken: {name}: {reason}" for name in listed)


def _named(model: Model, theirs: ModelMetadata | None, taken: set[str]) -> Iterator[str]:
    """Lines on the classes and keypoints that are taken from the file, that start fresh, and that are not used."""
    layouts = named_tensors(model)
    for of, what in (("names", "classes"), ("keypoint_names", "keypoints")):
        layers = [name for name, layout in layouts.items() if layout.of == of]
        if not layers or (theirs is None and taken.isdisjoint(layers)):
            continue
        if theirs is None:
            yield f"  {what}: taken in the order of the file, which has no names for them"
            continue
        names, known = getattr(model.metadata, of), getattr(theirs, of)
        place = [-1] * len(names) if taken.isdisjoint(layers) else places(model.metadata, theirs, of)
        used = set(place)
        groups = {
            "taken by name": [name for name, i in zip(names, place, strict=True) if i >= 0],
            "starting fresh": [name for name, i in zip(names, place, strict=True) if i < 0],
            "of the file not used": [name for i, name in enumerate(known) if i not in used],
        }
        for how, some in groups.items():
            fresh = how == "starting fresh"  # which must be learned; the others may be COCO's 80, a wall of names
            listed = ", ".join(some if fresh else some[:LISTED]) + (", …" if not fresh and some[LISTED:] else "")
            if some:
                yield f"  {what} {how} ({len(some)}): {listed}"


def parts(model: Model) -> list[str]:
    """The stages of the backbone that have weights, from the image on."""
    return [name for name in model.backbone_stages() if next(model.get_submodule(name).parameters(), None) is not None]


def frozen_parts(config: TrainConfig, model: Model, epoch: int) -> tuple[str, ...]:
    """The stages that are frozen in an epoch: the first `freeze`, one fewer every `unfreeze_every` epochs.

    Raises:
        UserError: there are fewer stages.
    """
    names = parts(model)
    count = len(names) if config.freeze < 0 else config.freeze
    if count > len(names):
        raise UserError(f"--freeze {count}: {config.model.name} has {len(names)} parts: {', '.join(names)}")
    return tuple(names[: max(0, count - (epoch // config.unfreeze_every if config.unfreeze_every else 0))])


def freeze(model: Model, names: tuple[str, ...]) -> None:
    """Freeze the weights and batch statistics of these stages, and of no others."""
    model.frozen = names
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(tuple(f"{part}." for part in names)))


def initialize(model: Model, kind: str) -> None:
    """Draw new weights for convolutions and dense layers. Biases stay: those of a detector hold its prior scores.

    The kinds are
    gaussian  deviation 0.01 (Krizhevsky et al., 2012)
    uniform   within 1 / sqrt(inputs) (the usual heuristic, equation 1 in Glorot and Bengio, 2010)
    xavier    uniform, within sqrt(6 / (inputs + outputs)) (Glorot and Bengio, 2010)
    he        Gaussian, deviation sqrt(2 / inputs) (He et al., 2015)
    paper     as the network's own paper has it: nothing is drawn
    """
    if kind == "paper":
        return
    for layer in model.modules():
        if isinstance(layer, _ConvNd | nn.Linear):
            _DRAW[kind](layer.weight)


_DRAW = {
    "gaussian": lambda w: nn.init.normal_(w, std=0.01),
    "uniform": lambda w: nn.init.uniform_(w, -((w[0].numel()) ** -0.5), (w[0].numel()) ** -0.5),
    "xavier": nn.init.xavier_uniform_,
    "he": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
}
