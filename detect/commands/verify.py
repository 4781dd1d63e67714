"""`detect verify`: say whether two images show the same identity."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detect.config.constraints import Precision
from detect.errors import UserError
from detect.utils.names import say


@dataclass(frozen=True)
class VerifyConfig:
    """Say whether two pictures show one person: detect verify A B --weights W.

    They do where their vectors are no farther apart than `threshold` (0: that of the weights, the best for the pairs
    that were held out of training). `detector` is that of embed; `json` prints an object.
    """

    a: str
    b: str
    weights: str
    threshold: float = 0.0
    detector: list[str] = field(default_factory=list)
    json: bool = False
    device: str = "auto"
    precision: Precision = "auto"


def verify(config: VerifyConfig) -> dict[str, Any]:
    """Say whether two pictures show one person."""
    from detect.data.images import read_image
    from detect.embedding.image_embedder import ImageEmbedder
    from detect.types import Frame

    embedder = ImageEmbedder(config.weights, config.detector, config.device, config.precision)
    threshold = embedder.threshold(config.threshold, "accuracy", config.weights)
    vectors = []
    for name in (config.a, config.b):
        vector = embedder(Frame(read_image(Path(name)), name))
        if vector is None:
            raise UserError(f"{name}: {embedder.nothing_detected}")
        vectors.append(vector)
    distance = float(embedder.embed_boxes.distance(*vectors))
    result = {"distance": distance, "threshold": threshold, "same": distance <= threshold}
    said = f"distance {distance:.4f}, threshold {threshold:.4f}: {'same' if result['same'] else 'different'}"
    say(json.dumps(result) if config.json else said)
    return result
