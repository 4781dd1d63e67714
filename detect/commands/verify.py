"""`detect verify`: say whether two images show the same identity."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from detect.config.constraints import Precision
from detect.config.fusion import MeanConfig
from detect.errors import UserError
from detect.utils.names import say


@dataclass(frozen=True)
class VerifyConfig:
    """Compare two images: do they show the same identity?

    detect verify A B --weights W
    """

    positional: ClassVar = ("a", "b")

    a: str
    """First image."""
    b: str
    """Second image."""
    weights: list[str]
    """Weights file of an embedder. Several: their squared distances are averaged."""
    fusion: MeanConfig = field(default_factory=MeanConfig)
    """How the embeddings of several --weights become one."""
    threshold: float = 0.0
    """Largest distance of two embeddings of one identity. Default (0): the one in the weights, the most accurate on the
    validation pairs. Needed with several --weights: detect evaluate prints it."""
    detector: list[str] = field(default_factory=list)
    """Weights that cut the object out of the image first. Each detector cuts out its best box; a landmarker also aligns
    what it finds. Several: each runs on the crops of the one before it."""
    json: bool = False
    """Print the result as JSON."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""


def verify(config: VerifyConfig) -> dict[str, Any]:
    """Say whether two images show one person."""
    from detect.data.images import read_image
    from detect.embedding.image_embedder import ImageEmbedder
    from detect.types import Frame

    embedder = ImageEmbedder(config.weights, config.detector, config.device, config.precision, config.fusion.weights)
    threshold = embedder.threshold(config.threshold, "accuracy")
    vectors = []
    for name in (config.a, config.b):
        vector = embedder(Frame(read_image(Path(name)), name))
        if vector is None:
            raise UserError(f"{name}: {embedder.nothing_detected}")
        vectors.append(vector)
    distance = float(embedder.distance(*vectors))
    result = {"distance": distance, "threshold": threshold, "same": distance <= threshold}
    said = f"distance {distance:.4f}, threshold {threshold:.4f}: {'same' if result['same'] else 'different'}"
    say(json.dumps(result) if config.json else said)
    return result
