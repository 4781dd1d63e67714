"""Building a model from its configuration, with the checks that hold for all of them."""

from __future__ import annotations

from detect.errors import UserError
from detect.models.base import Model, ModelMetadata
from detect.models.configs.base import ModelConfig
from detect.utils.operators import require_operators


def build(config: ModelConfig, metadata: ModelMetadata) -> Model:
    """The model that `config` describes, with fresh weights.

    Args:
        config: the options of any kind of model.
        metadata: classes, keypoints and image size to build it for.

    Raises:
        UserError: options that do not fit the metadata or one another, and where torchvision does not load.
    """
    if config.dims == 2 and config.in_channels not in (1, 3):
        raise UserError(f"--model.in-channels is {config.in_channels}: images have 3, or 1 where they become grey")
    weights, classes = config.class_weights, len(metadata.names)
    if weights and len(weights) != classes:
        raise UserError(f"--model.loss.class-weights has {len(weights)} weights for {classes} classes")
    if config.suppresses:
        require_operators()  # now: the first evaluation would find out after an epoch
    return config.build(metadata)
