"""Imports torchvision's Faster and Mask R-CNN: a ResNet, the feature pyramid and the heads of the papers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from detect.convert import coco_classes as coco
from detect.convert.published import PublishedFile
from detect.errors import UserError
from detect.models.backbones.base import Staged
from detect.models.base import Model
from detect.models.builder import build
from detect.models.configs.rcnn import FasterRcnnConfig, MaskRcnnConfig
from detect.models.faster_rcnn import FasterRCNN
from detect.models.heads.rpn import pyramid_sizes
from detect.models.mask_rcnn import CONVOLUTIONS
from detect.models.pretrained import PIXELS
from detect.models.uninitialized import Unfilled
from detect.registry import register

SIZE, LONGEST = 800, 1333  # pixels of the shorter side of an image, and the most of the longer one
LEVELS = [2, 3, 4, 5, 6]
RESNETS = {  # by the blocks of each stage, and by whether these are bottlenecks
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
HEAD, MASKS = "roi_heads.box_predictor.cls_score.weight", "roi_heads.mask_predictor.conv5_mask.bias"
PLACES = {  # the beginnings of our names and of torchvision's
    "neck.lateral.": "backbone.fpn.inner_blocks.",
    "neck.smooth.": "backbone.fpn.layer_blocks.",
    "rpn.hidden.0.": "rpn.head.conv.",
    "rpn.objectness.": "rpn.head.cls_logits.",
    "rpn.deltas.": "rpn.head.bbox_pred.",
    "head.hidden.0.": "roi_heads.box_head.fc6.",
    "head.hidden.2.": "roi_heads.box_head.fc7.",
    "head.classify.": "roi_heads.box_predictor.cls_score.",
    "head.deltas.": "roi_heads.box_predictor.bbox_pred.",
    **{f"mask_head.convolutions.{i}.0.": f"roi_heads.mask_head.mask_fcn{i + 1}." for i in range(CONVOLUTIONS)},
    "mask_head.up.0.": "roi_heads.mask_predictor.conv5_mask.",
    "mask_head.classify.": "roi_heads.mask_predictor.mask_fcn_logits.",
}
COUNT = "num_batches_tracked"


@register("importer", "faster_rcnn")
def import_faster_rcnn(file: PublishedFile) -> FasterRCNN | None:
    """Import torchvision's `fasterrcnn_resnet50_fpn` or `maskrcnn_resnet50_fpn`, or one with another ResNet.

    None for a file of another network.

    The released weights have rows for 91 category ids, 10 of which COCO does not use; the 80 others become classes.

    Raises:
        UserError: the file begins like such a network, but has other parts.
    """
    if HEAD not in file.state or file.state[HEAD].ndim != 2:
        return None
    state = {_current(name): tensor for name, tensor in file.state.items()}
    rows = list(range(1, len(state[HEAD])))
    if len(rows) == coco.IDS[-1]:
        rows = list(coco.IDS)
    pixels = replace(PIXELS["imagenet"], alignment="topleft", long_side=LONGEST / SIZE)
    frozen = not any(name.endswith(COUNT) for name in state)
    config, metadata = _config(state, file), file.metadata(len(rows), SIZE, pixels, folded=frozen)
    with Unfilled(shapes=True):
        like = build(config, metadata)
    try:
        found = _renamed(like, state, rows)
        if frozen:
            _thaw(like, found)
    except (RuntimeError, IndexError, KeyError) as error:
        raise _other(file, " ".join(str(error).split())[:200]) from error
    wanted = like.state_dict()
    if odd := next((name for name, tensor in wanted.items() if found[name].shape != tensor.shape), None):
        raise _other(file, f"{odd} has shape {list(found[odd].shape)}, not {list(wanted[odd].shape)}")
    with Unfilled():
        model = build(config, metadata)
    assert isinstance(model, FasterRCNN)
    model.load_state_dict(found)
    return model


def _current(name: str) -> str:
    """The name of a tensor without the numbers that later versions of torchvision put between its parts."""
    name = re.sub(r"((?:inner|layer)_blocks\.\d+)\.0\.", r"\1.", name)
    name = re.sub(r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}.", name)
    return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


def _config(state: Mapping[str, Tensor], file: PublishedFile) -> FasterRcnnConfig:
    """The configuration of the network that has these tensors."""
    body = re.compile(r"backbone\.body\.layer(\d)\.(\d+)\.conv1\.weight")
    blocks = [match[1] for name in state if (match := body.fullmatch(name))]
    depths = tuple(blocks.count(str(stage)) for stage in range(1, 5))
    bottlenecks = "backbone.body.layer1.0.conv3.weight" in state
    resnet = next((name for known, name in RESNETS.items() if known == (depths, bottlenecks)), None)
    try:
        width = len(state["backbone.fpn.inner_blocks.0.bias"])
        hidden = [len(state[f"roi_heads.box_head.fc{i}.bias"]) for i in (6, 7)]
    except (KeyError, TypeError) as error:
        raise _other(file, f"{error} is absent") from error
    if resnet is None:
        raise _other(file, f"the stages of its backbone have {depths} blocks")
    sizes = [[float(2 * round(side / 2)) for side in pair] for pair in pyramid_sizes([2**i for i in LEVELS])]
    shared: dict[str, Any] = {"backbone": resnet, "neck": "fpn_paper", "levels": LEVELS, "width": width}
    shared |= {"hidden": hidden, "cells": "corner", "anchors": sizes, "regions": 1000}
    if MASKS in state:
        return MaskRcnnConfig(name=f"mask_rcnn_{resnet}", mask_width=len(state[MASKS]), **shared)
    return FasterRcnnConfig(name=f"faster_rcnn_{resnet}", **shared)


def _other(file: PublishedFile, reason: str) -> UserError:
    return UserError(
        f"{file.path} is a Faster or Mask R-CNN, but not torchvision's with a ResNet and its pyramid: {reason}"
    )


def _renamed(model: Model, state: Mapping[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    """The tensors by our names; of the classes those of `rows`, background last. KeyError: absent, or not known."""
    assert isinstance(model.backbone, Staged)
    places = {f"backbone.{ours}": f"backbone.body.{theirs}" for ours, theirs in model.backbone.names.items()}
    for ours, theirs in PLACES.items():
        places |= {name: theirs + name.removeprefix(ours) for name in model.state_dict() if name.startswith(ours)}
    absent = {name for name in places.values() if not name.endswith(COUNT)} - state.keys()
    if odd := sorted(absent | (state.keys() - set(places.values()))):
        raise KeyError(f"{odd[0]} is {'absent' if odd[0] in absent else 'not known'}")
    found = {name: state[theirs] for name, theirs in places.items() if theirs in state}
    for name, tensor in found.items():
        if name.startswith("head.classify."):
            found[name] = tensor[[*rows, 0]]
        elif name.startswith("mask_head.classify."):
            found[name] = tensor[rows]
        elif name.startswith("head.deltas."):
            found[name] = tensor.unflatten(0, (-1, 4))[rows].flatten(0, 1)
    return found


def _thaw(model: Model, found: dict[str, Tensor]) -> None:
    """Put what frozen batch normalization lacks: that of the released weights adds nothing to the variance."""
    for name, norm in model.named_modules():
        if isinstance(norm, torch.nn.BatchNorm2d) and f"{name}.weight" in found:
            variance = found[f"{name}.running_var"]
            found[f"{name}.weight"] = found[f"{name}.weight"] * ((variance + norm.eps) / variance).sqrt()
            found[f"{name}.{COUNT}"] = torch.tensor(1)
