"""The weights file: safetensors whose header says everything that is needed to use them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from detect.config import LossConfig, ModelConfig
from detect.errors import UserError
from detect.files import replace_file
from detect.models import build
from detect.models.base import Card, Model
from detect.models.renamed import renamed
from detect.ranges import check
from detect.types import Pixels

FORMAT = 1
_KEY = "gridhead"  # one JSON value under one key: safetensors writes several keys in random order


def save_weights(path: Path, model: Model, state: dict[str, Tensor] | None = None) -> None:
    """Write `model`, or another `state` of it, to `path` atomically."""
    about = {"format": FORMAT, "model": dataclasses.asdict(model.config), "card": dataclasses.asdict(model.card)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in (state or model.state_dict()).items()}
    header = {_KEY: json.dumps(about, sort_keys=True)}
    # Bytes of ours, for safetensors' own files are readable by their owner alone, and it hides what a disk says.
    replace_file(path, lambda part: part.write_bytes(save(tensors, header)))


def read_weights(path: Path) -> tuple[ModelConfig, Card, dict[str, Tensor]]:
    """What a weights file holds. Raises UserError for a file that is missing, damaged or not ours."""
    if path.is_dir():
        raise UserError(f"{path} is not a weights file but a folder: name the file in it")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path} is not a weights file that can be read: {error}") from error
    if about is None:
        raise UserError(f"{path} is a safetensors file, but not one of gridhead's: its header has no {_KEY!r}")
    try:
        if about["format"] > FORMAT:
            raise UserError(f"{path} has format {about['format']}, this version reads up to {FORMAT}; update gridhead")
        config, card = _model_config(about["model"]), read_card(about["card"])
        check(config, "--model.")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} has a header that this version cannot read: {error!r}; update gridhead") from error
    return config, card, tensors


def _model_config(values: dict[str, Any]) -> ModelConfig:
    return ModelConfig(**{**values, "loss": LossConfig(**values["loss"])})


def read_card(values: dict[str, Any]) -> Card:
    """The card that these values of a header say."""
    pixels: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["pixels"].items()}
    card = Card(**{**values, "pixels": Pixels(**pixels)})
    texts = all(isinstance(name, str) for name in (*card.names, *card.keypoints))
    if not texts or not len(card.names) == len(card.category_ids) == len(set(card.category_ids)):
        raise TypeError("names must be texts, and each class have an id of its own")
    return card


def load_weights(path: str | Path) -> Model:
    """The model in a weights file, in evaluation mode, on the CPU. Raises UserError as `read_weights` does."""
    config, card, tensors = read_weights(Path(path))
    model = build(config, card)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its tensors are not those of the model in its header: {reason[:200]}") from error
    return model.eval()


class Transfer(NamedTuple):
    """Names of tensors: those taken, those left as they were and those of the file not used, each with the reason."""

    taken: list[str]
    left: dict[str, str]
    extra: dict[str, str]


def transfer(model: nn.Module, tensors: dict[str, Tensor], card: Card | None = None) -> Transfer:
    """Copy into `model` what fits by name and shape.

    With the `card` of the tensors, outputs of classes and keypoints go to those of the same name, whatever their order
    and number (see `Model.named_rows`); names that the card lacks keep their start. Without, they go by their order.
    """
    mine = model.state_dict()
    by_name = renamed(model, tensors, card) if card is not None and isinstance(model, Model) else {}
    moved = {k: v for k, v in {**tensors, **by_name}.items() if v is not None}
    taken = [k for k, v in mine.items() if k in moved and moved[k].shape == v.shape]
    with torch.no_grad():
        for k in taken:
            mine[k].copy_(moved[k])
    left = {k: _why(v, tensors.get(k)) for k, v in mine.items() if k not in set(taken)}
    return Transfer(taken, left, {k: "extra, the model has no such tensor" for k in tensors if k not in mine})


def _why(mine: Tensor, theirs: Tensor | None) -> str:
    if theirs is None or theirs.shape == mine.shape:
        return "absent in the file" if theirs is None else "the file has other classes"
    return f"shape {list(theirs.shape)}, the model's is {list(mine.shape)}"


def is_ours(path: Path) -> bool:
    """Whether `path` is a safetensors file of gridhead's."""
    try:
        with safe_open(path, "pt") as file:
            return _KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False
