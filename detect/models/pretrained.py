"""Pretrained backbones: files of state dictionaries, and those of torchvision, with their preprocessing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detect.errors import UserError
from detect.hub import find, pull
from detect.hub.cache import require_intact
from detect.models.weights import require_finite
from detect.types import Preprocess
from detect.utils.atomic_io import open_file

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = {
    "unit": Preprocess(),
    "imagenet": Preprocess(mean=_IMAGENET[0], std=_IMAGENET[1]),
    "half": Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3),
    "caffe": Preprocess(order="BGR", scale=1.0, mean=(104.0, 117.0, 123.0)),
    "tensorflow": Preprocess(scale=1 / 128, mean=(127 / 128,) * 3),
}
# What a network's published weights want where it is not "imagenet", and what single files want, by their SHA-256:
# SqueezeNet's is a conversion of Caffe's weights. torchvision's Inception turns ImageNet's pixels into these itself.
_FAMILIES = {"inception_v3": "half", "efficientnet_lite0": "tensorflow"}
_FILES = {"616bb9a19d357e1e21d937fdea5f437d0a6c943686b36425b9d3f7b23319946f": "caffe"}


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, by name; in a torch file they may be under the key "model".

    Raises:
        UserError: the file is neither, or is damaged; no pickle is loaded.
    """
    from safetensors.torch import load_file

    try:
        open_file(path).close()
        state: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is no file of weights that can be read safely: {reason}") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no state dictionary, names with tensors: save model.state_dict()")
    require_stored(state, path)
    return state


def require_stored(state: dict[Any, Tensor], path: Path) -> None:
    """Raises UserError unless names are texts and tensors finite numbers, each of them in the file.

    A tensor may say that it repeats one number without end: adding it up, or copying it, never ends.
    """
    for name, tensor in state.items():
        known = isinstance(name, str) and tensor.layout == torch.strided and not tensor.is_complex()
        if not known or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UserError(f"{path}: tensor {str(name)[:60]} is no plain tensor with a name: save model.state_dict()")
    require_finite(state, path)


def pixels_of(backbone: str, path: Path | None = None) -> Preprocess:
    """How the published weights of `backbone` want images, those in the file `path` where that is a known one."""
    name = _FAMILIES.get(backbone, "imagenet")
    if path is not None:
        with path.open("rb") as file:
            name = _FILES.get(hashlib.file_digest(file, "sha256").hexdigest(), name)
    return PIXELS[name]


def download(backbone: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of `backbone`: from torch's cache or ours, or else from the network.

    Raises:
        UserError: there are none, or they cannot be fetched, or the file is not the published one.
    """
    published = find(backbone)
    if published is None or (published.task, published.publisher) != ("classify", "torchvision"):
        raise UserError(
            f"--pretrained: torchvision publishes no weights that fit {backbone}; name a file with --backbone-weights"
        )
    kept = Path(torch.hub.get_dir(), "checkpoints", published.files[0].name)
    if kept.is_file():
        try:
            require_intact(kept, published.files[0])
        except UserError as error:
            raise UserError(f"--pretrained: {error}; remove it, and it is fetched again") from error
        return read_state(kept)
    return read_state(pull(published))
