"""Opens a weights file: gridhead's own, or a published one of another program, which is imported in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from detect.convert.published import PublishedFile
from detect.errors import UserError
from detect.hub import in_cache
from detect.hub.catalogue import Published
from detect.models.base import Model, ModelMetadata
from detect.models.configs.base import ModelConfig
from detect.models.weights import is_ours, load_weights, read_weights, require_finite
from detect.registry import REGISTRIES

KNOWN = (
    "YOLOX (.onnx, .pth), PicoDet (.onnx), Darknet (.weights with its .cfg), "
    "torchvision's Faster R-CNN and Mask R-CNN with a ResNet and its ImageNet classifiers (.pth)"
)


def open_model(path: str | Path) -> Model:
    """The model in a weights file, in evaluation mode, on the CPU.

    Args:
        path: a weights file of ours, or one that an importer knows: what is in it decides.

    Raises:
        UserError: the file is missing, damaged, or unknown.
    """
    path = Path(path)
    with _published(path) as published:
        model = load_weights(path) if _is_own(path) else import_model(PublishedFile(path))
        if published:
            require_fit(published, model, path)
    return model


def open_weights(path: str | Path) -> tuple[ModelConfig, ModelMetadata, dict[str, Tensor]]:
    """The configuration, metadata and tensors of the model that `open_model` returns. Raises UserError as it does."""
    path = Path(path)
    if in_cache(path) is None and _is_own(path):
        return read_weights(path)
    model = open_model(path)
    return model.config, model.metadata, model.state_dict()


def import_model(file: PublishedFile) -> Model:
    """The model in a published file, in evaluation mode: the first that an importer makes of it.

    An importer is a function, registered in the kind "importer", from a `PublishedFile` to a model. It returns None
    for a file that is of another network.

    Raises:
        UserError: no importer knows the file, or it is damaged.
    """
    for importer in REGISTRIES["importer"].values():
        model: Model | None = importer(file)
        if model is not None:
            require_finite(model.state_dict(), file.path)
            return model.eval()
    others = [name for name, one in REGISTRIES["importer"].items() if not one.__module__.startswith("detect.convert.")]
    known = ", ".join([KNOWN, *(f"{name} (a plugin's)" for name in others)])
    raise UserError(f"{file.path} holds no network that detect import knows: it reads {known}")


def require_fit(published: Published, model: Model, path: Path) -> str:
    """Describe the model in a file of published weights. Raises UserError if it is another one than these have."""
    count, classes = sum(p.numel() for p in model.parameters()) / 1e6, len(model.metadata.names)
    said = f"{model.config.name}, {count:.2f} M parameters, {classes} classes, {model.metadata.size} px"
    fits = (model.task, classes) == (published.task, published.classes)
    if not fits or not 0.8 < count / published.parameters < 1.2:  # some publishers count auxiliary heads
        raise UserError(f"{path} is not {published.name}: it holds {said}")
    return said


@contextmanager
def _published(path: Path) -> Iterator[Published | None]:
    """The published weights whose file in the cache this is, if any; what is wrong with it gets the remedy."""
    published = in_cache(path)
    try:
        yield published
    except UserError as error:
        if published is None:
            raise
        raise UserError(f"{error}; remove it, and name {published.name} again") from error


def _is_own(path: Path) -> bool:
    """Whether `load_weights` reads the file, or says best what is wrong with it."""
    return path.suffix.lower() == ".safetensors" or not path.is_file() or is_ours(path)
