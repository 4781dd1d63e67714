"""Imports Darknet models: the network of a cfg with the values of a .weights file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detect.convert.published import PublishedFile
from detect.errors import UserError
from detect.models.backbones.darknet import Plan, plan
from detect.models.backbones.darknet_cfg import LETTERS
from detect.models.configs.darknet import DarknetConfig
from detect.models.darknet import build_darknet
from detect.models.uninitialized import Unfilled
from detect.models.yolo import Yolo
from detect.registry import register
from detect.types import Preprocess


@register("importer", "darknet")
def import_darknet(file: PublishedFile) -> Yolo | None:
    """Import a detector of Darknet, a .weights file with the .cfg that describes its network, or the other way round.

    Returns:
        The model; None for another file.

    Raises:
        UserError: the cfg is absent or has unknown parts, or the weights have another length than it needs.
    """
    if file.cfg is None and file.path.suffix.lower() not in (".cfg", ".weights"):
        return None
    weights = file.path.with_suffix(".weights") if file.path.suffix.lower() == ".cfg" else file.path
    cfg = file.cfg or file.path.with_suffix(".cfg")
    config, described, pixels = _described(cfg, weights)
    metadata = file.metadata(described.classes, max(described.size), pixels)
    levels = {scale.predictor: level for level, scale in enumerate(described.scales)}
    with Unfilled(shapes=True):
        need = sum(t.numel() for t, _ in _slots(build_darknet(config, metadata), levels))
    numbers = _numbers(weights, need, cfg)
    model = build_darknet(config, metadata).eval()
    wanted = list(_slots(model, levels))
    parts = numbers.split([t.numel() for t, _ in wanted])
    with torch.no_grad():
        for (like, put), part in zip(wanted, parts, strict=True):
            put(part.view_as(like))
    return model


def _described(cfg: Path, weights: Path) -> tuple[DarknetConfig, Plan, Preprocess]:
    """The model that a cfg describes, the plan of its network and its preprocessing."""
    if missing := next((path for path in (cfg, weights) if not path.is_file()), None):
        raise UserError(
            f"{missing} cannot be read: there is no such file. Darknet has a network in two files: put the .cfg "
            "beside the .weights under the same name, or give both to detect import (--weights, --cfg)"
        )
    try:
        with cfg.open(encoding="utf-8") as file:
            text = file.read(LETTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--cfg {cfg} cannot be read: {getattr(error, 'strerror', error)}") from error
    with Unfilled(shapes=True):
        described = plan(text, str(cfg))
    pixels = Preprocess(stretch=True) if described.stretch else Preprocess(pad=127)
    sections = "\n".join(section.text() for section in described.sections) + "\n"
    return DarknetConfig(name=cfg.stem, darknet_cfg=sections), described, pixels


def _numbers(path: Path, need: int, cfg: Path) -> Tensor:
    """The values after the header, which has three int32 of versions and the number of images seen.

    That number is an int64 since version 0.2, before an int32.

    Raises:
        UserError: the file has another number of values than `cfg` needs; raised before they are read.
    """
    with path.open("rb") as file:
        head, length = file.read(20), path.stat().st_size
        if length < 16:
            raise UserError(f"{path} is too short to be a Darknet weights file")
        major, minor = np.frombuffer(head, "<i4", 2).tolist()
        start = 20 if major * 10 + minor >= 2 else 16
        if not (0 <= major < 1000 and 0 <= minor < 1000) or (length - start) % 4:
            raise UserError(f"{path} is not a Darknet weights file: its header or length is wrong")
        count = (length - start) // 4
        if count != need:
            much = "short" if count < need else "long"
            raise UserError(
                f"{path} is too {much}: it has {count} numbers, {cfg} needs {need}; give the cfg it was made with"
            )
        file.seek(start)
        return torch.from_numpy(np.frombuffer(bytearray(file.read()), "<f4"))


Slot = tuple[Tensor, Callable[[Tensor], object]]


def _slots(model: Yolo, predictors: dict[int, int]) -> Iterator[Slot]:
    """The tensors of the file in its order: for each a tensor of its shape, and the function that stores its values.

    For a convolution these are the biases; scales, means and variances if batch normalization follows; the kernel.
    """
    for i, stage in enumerate(model.backbone.stages):
        if i in predictors:
            yield from _predictor(model.head, predictors[i])
            continue
        conv, norm = (*stage.children(), None, None)[:2]
        if not isinstance(conv, nn.Conv2d):
            continue
        if isinstance(norm, nn.BatchNorm2d):
            for t in (norm.bias, norm.weight, norm.running_mean, norm.running_var):
                assert t is not None
                yield t, t.copy_
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.fill_(1)
        elif conv.bias is not None:
            yield conv.bias, conv.bias.copy_
        yield conv.weight, conv.weight.copy_


def _predictor(head: nn.Module, level: int) -> Iterator[Slot]:
    """The convolution before a [yolo] layer: box, objectness and classes of each anchor, which our head separates."""
    boxes, classes = (getattr(head, name)[level][-1] for name in ("regress", "classify"))
    for name in ("bias", "weight"):
        box, label = getattr(boxes, name), getattr(classes, name)
        yield torch.cat((box, label)), partial(_part, box, label)


def _part(box: Tensor, label: Tensor, values: Tensor) -> None:
    """Store the rows of each anchor: five for box and objectness, and one for each class."""
    rows = values.view(len(box) // 5, -1, *values.shape[1:])
    box.copy_(rows[:, :5].reshape(box.shape))
    label.copy_(rows[:, 5:].reshape(label.shape))
