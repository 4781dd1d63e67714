"""Pretrained backbones: files of state dictionaries, and those of torchvision, with their preprocessing."""

from __future__ import annotations

import hashlib
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detect.errors import UserError
from detect.hub import is_offline
from detect.models.weights import require_finite
from detect.types import Preprocess
from detect.utils.atomic_io import open_file
from detect.utils.operators import explain_torchvision_errors

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


@explain_torchvision_errors()
def download(backbone: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of `backbone`, from its cache or the network; their hash is checked.

    Raises UserError where there are none, or where they cannot be fetched or safely read.
    """
    from torchvision import models  # late: it takes half a second

    if backbone not in models.list_models(module=models):
        raise UserError(
            f"--pretrained: torchvision publishes no weights of {backbone}; name a file with --backbone-weights"
        )
    weights = models.get_model_weights(backbone)["DEFAULT"]
    kept = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    if is_offline() and not kept.is_file():
        raise UserError(f"--pretrained: {kept} is not there, and --offline forbids the download of {weights.url}")
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # torch announces there what it begins
            return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except Exception as error:  # no network, another hash, or a damaged file in the cache, of many kinds
        reason = (str(getattr(error, "reason", error)).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--pretrained: {weights.url} cannot be fetched: {reason}; "
            "fetch it where there is a network, and name the file with --backbone-weights"
        ) from error
