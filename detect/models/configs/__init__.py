"""The configuration of each kind of model, and the names of models; importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detect.config import CONFIGS
from detect.config.constraints import from_values
from detect.config.fill import fill, settings
from detect.errors import UserError, unknown
from detect.models.configs.backbone_names import TIMM, is_backbone
from detect.registry import REGISTRIES
from detect.utils.yaml_files import read_yaml

if TYPE_CHECKING:
    from detect.models.configs.base import ModelConfig


def model_class(kind: str) -> type[ModelConfig]:
    """The configuration dataclass of a kind of model.

    Args:
        kind: a registered kind, such as "yolo".

    Raises:
        UserError: there is no such kind; the nearest one is suggested.
    """
    found: type[ModelConfig] = REGISTRIES["model"][kind]
    return found


def shipped_names() -> list[str]:
    """The models whose YAML is shipped, such as yolo_n."""
    return sorted(path.stem for path in (CONFIGS / "models").glob("*.yaml"))


def model_names() -> list[str]:
    """Every name that stands for a model: shipped ones, kinds with their defaults, and backbones as classifiers."""
    return list(dict.fromkeys([*shipped_names(), *REGISTRIES["model"], *REGISTRIES["backbone"]]))


def model_values(name: str) -> dict[str, Any]:
    """The configuration that `name` stands for, as plain values with at least `name` and `kind`; others are defaults.

    Args:
        name: one of `model_names`, in any case, a backbone with options, or timm:NAME.

    Raises:
        UserError: there is no such model; the nearest one is suggested.
    """
    known = name if name.startswith(TIMM) else name.lower()
    if known in shipped_names():
        values: dict[str, Any] = read_yaml(CONFIGS / "models" / f"{known}.yaml")
        return values
    if known in REGISTRIES["model"]:
        return {"name": known, "kind": known}
    if is_backbone(known):
        return {"name": known, "kind": "classifier", "backbone": known}
    raise unknown("model", name, model_names())


def file_config(path: str) -> ModelConfig:
    """The configuration in a YAML file, as `--model FILE` of `detect train` reads it.

    Raises:
        UserError: the file cannot be read, names no kind of model, or has an option or value that is not allowed.
    """
    values = settings(path)
    if "kind" not in values:
        raise UserError(f"{path}: the file of a model says its kind, such as 'kind: layers'")
    return fill(model_class(str(values["kind"])), values, f"{path}: ")


def model_config(name: str) -> ModelConfig:
    """The configuration that `name` stands for; see `model_values`."""
    values = model_values(name)
    return from_values(model_class(values["kind"]), values, f"{name}: model.")
