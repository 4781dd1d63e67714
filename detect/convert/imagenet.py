"""Imports ImageNet classifiers: state dictionaries of torchvision's networks, and others with the names of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from detect.convert.published import PublishedFile
from detect.models.backbones import build_network
from detect.models.builder import build
from detect.models.classifier import Classifier
from detect.models.configs.classifier import ClassifierConfig
from detect.models.pretrained import pixels_of
from detect.models.uninitialized import Unfilled
from detect.registry import REGISTRIES, register
from detect.utils.names import distinct
from detect.utils.operators import explain_torchvision_errors

SIZES = {"efficientnet_b2": 288}  # image sizes of the released weights where they are not the paper's
COUNT = "num_batches_tracked"  # absent from older files; it has no part in evaluation


@register("importer", "imagenet")
def import_classifier(file: PublishedFile) -> Classifier | None:
    """Import a classifier whose tensors have the names and shapes of one of our networks; None for another file."""
    state = {name: tensor for name, tensor in file.state.items() if not name.endswith(COUNT)}
    tensors = list(state.values())
    if not tensors or (tensors[0].ndim, tensors[-1].ndim) != (4, 1):  # a convolution, and the biases of the classes
        return None
    classes = len(tensors[-1])
    network = _recognized(state, classes, file.path)
    if network is None:
        return None
    from torchvision.models import ResNet50_Weights  # late: it takes half a second

    categories = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    names = distinct(categories, range(1, len(categories) + 1))  # some versions call two classes crane
    name, size = network.name, SIZES.get(network.name, network.size)
    # Grey bars beside the image are new to these networks; a changed aspect ratio is not.
    metadata = file.metadata(classes, size, replace(pixels_of(name, file.path), stretch=True), names)
    model = build(ClassifierConfig(name=name, backbone=name), metadata)
    assert isinstance(model, Classifier)
    counts = {k: torch.tensor(1) for k in model.network.state_dict() if k.endswith(COUNT)}
    model.network.load_state_dict(model.network.renamed(state) | counts)
    return model


class Known(NamedTuple):
    """A network as it was published: its registered name, image size in pixels, and tensors.

    The shapes are by published name, without counts of batches; there are none for a network without published weights.
    """

    name: str
    size: int
    shapes: dict[str, torch.Size]


def _recognized(state: Mapping[str, Tensor], classes: int, path: Path) -> Known | None:
    """The network that has the tensors of `state`; one that the file is named after is tried first."""
    shapes = {name: tensor.shape for name, tensor in state.items()}
    names = sorted(REGISTRIES["backbone"], key=lambda name: (name not in path.stem, -len(name)))
    return next((known for name in names if (known := _published(name, classes)).shapes == shapes), None)


@cache
def _published(name: str, classes: int) -> Known:
    with explain_torchvision_errors():
        import torchvision  # noqa: F401  (before `Unfilled`: what it computes as it is imported needs numbers)
    with Unfilled(shapes=True):
        network = build_network(name, classes)
    tensors = network.state_dict()
    shapes = {theirs: tensors[ours].shape for ours, theirs in network.names.items() if not ours.endswith(COUNT)}
    return Known(name, network.size, shapes)
