"""Configurations of any kind of model from one set of options."""

from dataclasses import fields
from typing import Any

from detect.models.configs import model_class
from detect.models.configs.base import ModelConfig


def fitting(kind: str, **options: Any) -> ModelConfig:
    """The configuration of `kind` with those of the options that it has."""
    own = model_class(kind)
    return own(**{name: options[name] for name in {f.name for f in fields(own)} & options.keys()})


def with_anchors(config: ModelConfig) -> ModelConfig:
    """`config` with some anchor boxes where it needs any."""
    sizes = [[8.0 * (i + 1), 6.0 * (i + 1)] for i in range(config.anchors_missing())]
    return config.with_anchors(sizes) if sizes else config
