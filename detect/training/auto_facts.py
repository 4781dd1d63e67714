"""What `detect train --auto` measures before it chooses: the training set, the machine and the network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from detect.config.optim import optimizer_defaults
from detect.config.train import TrainConfig
from detect.convert.open import open_weights
from detect.data.annotations import Annotations
from detect.data.datasets.crops import MARGIN
from detect.data.image_cache import free_memory
from detect.data.images import read_header
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.hub import resolve
from detect.models.base import Model, ModelMetadata
from detect.models.builder import build
from detect.models.uninitialized import Unfilled
from detect.tasks import get_task
from detect.training.auto import Data, Machine, Network
from detect.utils.device import pick_device, pick_workers
from detect.utils.names import find

SAMPLE = 2000  # images whose boxes and sizes are measured
KEPT = 1.5  # bytes that training takes for each byte that the layers put out: gradients and the loss come on top


def data_of(config: TrainConfig) -> Data:
    """Statistics of the training set, from at most `SAMPLE` images spread over it.

    Raises:
        UserError: the data cannot be read, or holds no images.
    """
    task = get_task(config.task)
    annotations = load_data(config.data, "train", config.skip_bad, task.image_level_labels, config.allow_outside)
    if annotations.dims != 2:
        raise UserError("--auto chooses for images, and the data holds signals or volumes: set --epochs and --batch")
    spread = np.linspace(0, len(annotations) - 1, min(len(annotations), SAMPLE)).astype(int)
    sample = annotations.select(np.unique(spread))
    sizes = _sizes(sample)
    owner = np.repeat(np.arange(len(sample)), np.diff(sample.starts))
    good = ~sample.crowd & (sample.boxes[:, 2:] > 0).all(1) & (sizes[owner] > 0).all(1)
    boxes, longer = sample.boxes[good, 2:], sizes.max(1)
    shares = np.sqrt(boxes.prod(1)) / longer[owner[good]]
    if task.image_level_labels:  # each box is a sample
        return Data(int((~annotations.crowd).sum()), boxes.max(1) * (1 + 2 * MARGIN), shares, annotations.names)
    return Data(len(annotations), longer[longer > 0], shares.clip(max=1), annotations.names)


def _sizes(annotations: Annotations) -> np.ndarray:
    """(I, 2) height and width; 0 for a file that cannot be read, which the checks before the first step will name."""
    sizes = annotations.sizes.astype(np.int64)
    for i in np.flatnonzero((sizes == 0).any(1)).tolist():
        with suppress(UserError):
            sizes[i] = read_header(annotations.image_path(i)).shown
    return sizes


def machine_of(config: TrainConfig) -> Machine:
    """The device that the run will use, with what is free of its memory; the image cache has a part of its own."""
    device = pick_device(config.device)
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0]
    else:
        memory = max(2**30, free_memory() - int(min(config.cache_gb * 2**30, free_memory() / 4)))
    return Machine({"cuda": "GPU", "mps": "GPU"}.get(device.type, "CPU"), memory, pick_workers(-1))


def network_of(config: TrainConfig, names: Sequence[str]) -> Network:
    """What is known of the model that these settings describe, for classes `names`."""
    task = get_task(config.task)
    model_config, usual = config.model, config.imgsz
    if missing := model_config.anchors_missing():
        model_config = model_config.with_anchors([[1.0, 1.0]] * missing)  # any will do
    metadata = ModelMetadata(
        list(names), list(range(len(names))), size=usual, keypoint_names=[str(i) for i in range(17)]
    )
    with Unfilled():
        model = build(model_config, metadata)
    strides = getattr(getattr(model, "neck", model), "strides", None) or [32]
    return Network(
        finest=min(strides),
        coarsest=max(32, *strides),
        size=usual,
        from_boxes="imgsz" not in task.defaults,
        memory=memory_of(model.eval().to("meta"), usual),
        batch=config.batch,
        pretrained=bool(config.weights),
        known=bool(config.weights) and knows(config.weights, names),
        lr=optimizer_defaults(config.optim.name).lr,
    )


def knows(weights: str, names: Sequence[str]) -> bool:
    """Whether weights have all of these classes, by name. Raises UserError if they cannot be read."""
    _, theirs, _ = open_weights(resolve(weights))
    return -1 not in find(names, range(len(names)), theirs.names, theirs.category_ids, "the weights file")


def memory_of(model: Model, size: int) -> float:
    """Bytes that training takes for each pixel of an image, by what the layers put out; 0 where it cannot be told.

    Args:
        model: on the meta device, where nothing is computed.
        size: of the image that is put through, in pixels.
    """
    found = list[int]()

    def note(_: nn.Module, __: Any, output: Any) -> None:
        found.extend(out.nbytes for out in tree_leaves(output) if isinstance(out, Tensor))

    for layer in model.modules():
        if next(layer.children(), None) is None:
            layer.register_forward_hook(note)
    image = torch.empty(1, 3, size, size, dtype=torch.uint8, device="meta")
    try:
        with torch.no_grad():
            model(image)
    except (RuntimeError, TypeError, ValueError):  # it needs more than an image, or numbers
        return 0.0
    return KEPT * sum(found) / size**2
