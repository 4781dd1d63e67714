"""The weights file: safetensors with a header that holds everything needed to use them."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from detect import plugins
from detect.config.constraints import from_values, registered_parts
from detect.errors import UserError
from detect.models.base import Model, ModelMetadata
from detect.models.builder import build
from detect.models.class_transfer import renamed
from detect.models.configs import model_class
from detect.models.configs.base import ModelConfig
from detect.models.legacy import current_header
from detect.models.uninitialized import Unfilled, shapes
from detect.utils.atomic_io import open_file, replace_file

FORMAT = 2
MOST = 1 << 28  # numbers of an image, signal or volume: 8192 x 8192 pixels and some
_KEY = "gridhead"  # one JSON value under one key: safetensors writes several keys in random order
_FLOATS = {"F64", "F32", "F16", "BF16"}


def save_weights(path: Path, model: Model, state: dict[str, Tensor] | None = None) -> None:
    """Write a weights file atomically.

    Args:
        path: the file.
        model: the model, whose configuration and metadata go into the header.
        state: tensors to write in place of the model's own.
    """
    about: dict[str, Any] = {
        "format": FORMAT,
        "model": dataclasses.asdict(model.config),
        "metadata": dataclasses.asdict(model.metadata),
    }
    parts = [("model", model.config.kind), *registered_parts(model.config), ("task", model.task)]
    if made_with := plugins.origins(parts):
        about["plugins"] = made_with
    tensors = {k: v.detach().cpu().contiguous() for k, v in (state or model.state_dict()).items()}
    header = {_KEY: json.dumps(about | {"checksum": checksum(about, tensors)}, sort_keys=True)}
    # We write the bytes: safetensors' own files are readable by their owner alone, and it hides errors of the disk.
    replace_file(path, lambda part: part.write_bytes(save(tensors, header)))


def checksum(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """The CRC-32 of a header without its checksum and of all tensors, by name.

    It detects damage, not tampering. A SHA-256 would take longer than reading the file.
    """
    crc = zlib.crc32(json.dumps({k: v for k, v in about.items() if k != "checksum"}, sort_keys=True).encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def read_weights(path: Path) -> tuple[ModelConfig, ModelMetadata, dict[str, Tensor]]:
    """Read a weights file.

    Names, shapes and types are compared with the network that the header describes before tensors are read: such a file
    never makes us allocate more than its own length.

    Returns:
        The configuration of the model, its metadata and its tensors.

    Raises:
        UserError: the file is missing, damaged, or not gridhead's.
    """
    if path.is_dir():
        raise UserError(f"{path} is not a weights file but a folder: name the file in it")
    try:
        open_file(path).close()
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(_KEY, "null"))
            config, metadata = _read_header(about, path)
            _require_fit(shapes_of(config, metadata, path), file, path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a weights file that can be read: {error}") from error
    if "checksum" in about and about["checksum"] != checksum(about, tensors):
        raise UserError(f"{path} is damaged: the checksum does not match; copy it again, or train again")
    require_finite(tensors, path)
    return config, metadata, tensors


def _read_header(about: Any, path: Path) -> tuple[ModelConfig, ModelMetadata]:
    """The configuration and metadata in the header of a file. Raises UserError if this version cannot read it."""
    if about is None:
        raise UserError(f"{path} is a safetensors file, but not one of gridhead's: its header has no {_KEY!r}")
    if not isinstance(about, dict):
        raise UserError(f"{path} has a header that this version cannot read: it is no JSON object")
    require_format(about.get("format"), FORMAT, path)
    about = current_header(about)
    if odd := sorted(about.keys() - {"format", "model", "metadata", "checksum", "plugins"}):
        raise UserError(f"{path} is damaged or not gridhead's: its header has {odd[0]!r}")
    plugins.require(about.get("plugins", {}), path)
    config = _read_model(about.get("model"), path)
    metadata = from_values(ModelMetadata, about.get("metadata"), f"{path}: metadata.")
    require_sound(metadata, path, config.dims, config.in_channels)
    return config, metadata


def _read_model(values: Any, path: Path) -> ModelConfig:
    """The configuration of the kind that the header names. Raises UserError if this version cannot read it."""
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str):
        raise UserError(f"{path} is damaged or not gridhead's: its header names no kind of model")
    try:
        own = model_class(kind)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return from_values(own, values, f"{path}: model.")


def require_format(found: Any, known: int, path: object) -> None:
    """Raise UserError if the format of a file is no number, or newer than this version."""
    if type(found) is not int or found < 1:
        raise UserError(f"{path} is damaged or not gridhead's: its format is {str(found)[:20]!r}, not a number from 1")
    if found > known:
        raise UserError(f"{path} has format {found}, this version reads up to {known}; update gridhead")


def require_sound(metadata: ModelMetadata, path: object, dims: int = 2, channels: int = 3) -> None:
    """Raise UserError if values of the metadata, each allowed, contradict each other."""
    mean, count = len(metadata.preprocess.mean), len(metadata.keypoint_names)
    pairs = [*metadata.skeleton, *(metadata.flip_pairs or [])]
    wrong = ""
    if not len(metadata.names) == len(metadata.category_ids) == len(set(metadata.category_ids)):
        wrong = "names and category_ids are not as many, or an id is there twice"
    elif len(metadata.preprocess.std) != mean or mean not in ((3,) if dims == 2 else (1, 3, channels)):
        wrong = f"preprocess.mean and preprocess.std have {mean} and {len(metadata.preprocess.std)} values"
    elif not all(0 <= i < count for pair in pairs for i in pair):
        wrong = f"skeleton or flip_pairs name keypoints that are not there: it has {count}"
    elif len(metadata.shape) not in (0, count):
        wrong = f"shape has {len(metadata.shape)} points for {count} keypoints"
    elif metadata.confidence and len(metadata.confidence.classes) != len(metadata.names):
        wrong = f"confidence has {len(metadata.confidence.classes)} thresholds for {len(metadata.names)} classes"
    elif metadata.calibration and (odd := metadata.calibration.wrong(len(metadata.names))):
        wrong = odd
    elif metadata.size**dims * (3 if dims == 2 else channels) > MOST:
        wrong = f"size {metadata.size} is too large"
    if wrong:
        raise UserError(f"{path}: metadata: {wrong}: the header is damaged or not gridhead's")


def shapes_of(config: ModelConfig, metadata: ModelMetadata, path: object) -> dict[str, Tensor]:
    """`shapes` of the model in the header of `path`. Raises UserError if it cannot be built."""
    try:
        return shapes(config, metadata)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # each value is allowed, but not beside the others: of any kind
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: its header describes no network that can be built: {reason[:200]}") from error


def _require_fit(wanted: dict[str, Tensor], file: Any, path: Path) -> None:
    """Raise UserError if the tensors of `file` do not have the names, shapes and types of those `wanted`."""
    names = set(file.keys())
    what = f"{path}: its tensors are not those of the model in its header"
    if odd := sorted(names ^ wanted.keys()):
        raise UserError(f"{what}: {odd[0]} is {'not known' if odd[0] in names else 'absent'}")
    for name, tensor in wanted.items():
        part = file.get_slice(name)
        if part.get_shape() != list(tensor.shape):
            raise UserError(f"{what}: {name} has shape {part.get_shape()}, not {list(tensor.shape)}")
        if part.get_dtype() not in (_FLOATS if tensor.is_floating_point() else {"I64"}):
            raise UserError(f"{what}: {name} is of type {part.get_dtype()}, not {str(tensor.dtype)[6:]}")


def require_finite(tensors: Mapping[str, Tensor], path: object) -> None:
    """Raise UserError, with the name of the tensor, if one holds NaN or infinity."""
    for name, tensor in tensors.items():
        # A sum is much faster than a look at each number; numbers whose sum overflows are looked at.
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise UserError(f"{path}: tensor {name} holds NaN or infinity: train again, or take another file")


def load_weights(path: str | Path) -> Model:
    """The model in a weights file, in evaluation mode, on the CPU.

    Raises:
        UserError: the file is missing, damaged, or not gridhead's.
    """
    config, metadata, tensors = read_weights(Path(path))
    with Unfilled():
        model = build(config, metadata)
    model.load_state_dict(tensors)
    return model.eval()


class Transfer(NamedTuple):
    """Names of tensors: those copied, those left as they were and those of the file not used, each with the reason."""

    taken: list[str]
    left: dict[str, str]
    extra: dict[str, str]


def transfer(model: nn.Module, tensors: dict[str, Tensor], metadata: ModelMetadata | None = None) -> Transfer:
    """Copy into `model` the tensors that fit by name and shape.

    Args:
        model: the model. tensors: the tensors to copy from. metadata: that of the tensors. With it, outputs of classes
        and keypoints are copied by name, whatever their order
            and number (see `Model.named_rows`); names that it lacks keep their initial weights. Without, by position.
    """
    mine = model.state_dict()
    by_name = renamed(model, tensors, metadata) if metadata is not None and isinstance(model, Model) else {}
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
    """Whether `path` is a weights file of gridhead's."""
    try:
        open_file(path).close()
        with safe_open(path, "pt") as file:
            return _KEY in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False
