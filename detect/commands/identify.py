"""`detect identify`: say which identity of a gallery each image shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.config.constraints import Precision
from detect.errors import UserError
from detect.utils.names import say
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.embedding.gallery import Gallery
    from detect.embedding.image_embedder import ImageEmbedder
    from detect.types import Frame


@dataclass(frozen=True)
class IdentifyConfig:
    """Say who of a gallery is in each picture of `source`: an image, folder, glob, video, camera or stream.

    It is the person of the nearest picture of the gallery, or nobody known where that is farther than `threshold` (0:
    that of the weights, which takes 1 % of the held-out pairs of two people for one). `weights` none are those that the
    gallery names; others than made it are refused. `detector` none are those that the gallery was made with, [] is
    nothing cut out; `json` prints a list of objects.
    """

    gallery: str
    source: str
    weights: str = ""
    threshold: float = 0.0
    detector: list[str] | None = None
    json: bool = False
    device: str = "auto"
    precision: Precision = "auto"


def identify(config: IdentifyConfig) -> list[dict[str, Any]]:
    """Say who of a gallery is in each picture of a source."""
    from detect.embedding.gallery import Gallery, fingerprint
    from detect.embedding.image_embedder import ImageEmbedder
    from detect.inference.source import open_source

    gallery = Gallery.load(Path(config.gallery))
    weights = config.weights or gallery.weights
    if not Path(weights).is_file():
        raise UserError(f"{config.gallery} was made by {weights}, which is not there: say where they are by --weights")
    if fingerprint(Path(weights)) != gallery.fingerprint:
        raise UserError(f"{config.gallery} was made by other weights than {weights}: make it again with detect embed")
    if config.detector is None:
        _require_same(config.gallery, gallery.detectors)
    detectors = [path for path, _ in gallery.detectors] if config.detector is None else config.detector
    embedder = ImageEmbedder(weights, detectors, config.device, config.precision)
    if gallery.vectors.shape[1] != embedder.embed_boxes.dimensions:
        raise UserError(
            f"{config.gallery} is damaged: its vectors are not as long as those of {weights}: make it again"
        )
    threshold = embedder.threshold(config.threshold, "far_1pct", weights)
    with open_source(config.source) as source:
        found = list(_identified(config, gallery, embedder, threshold, track(iter(source), source.count, "identify")))
    if config.json:
        say(json.dumps(found))
    return found


def _require_same(name: str, detectors: list[tuple[str, str]]) -> None:
    """Raises UserError where a detector of the gallery `name` is not there, or another."""
    from detect.embedding.gallery import fingerprint

    for path, made_by in detectors:
        if not Path(path).is_file():
            raise UserError(f"{name} was made with {path}, which is not there: say where it is by --detector")
        if fingerprint(Path(path)) != made_by:
            raise UserError(f"{name} was made with another {path}: make it again, or take this one by --detector")


def _identified(
    config: IdentifyConfig, gallery: Gallery, embedder: ImageEmbedder, threshold: float, frames: Iterator[Frame]
) -> Iterator[dict[str, Any]]:
    """The record of each frame; said at once, line by line, unless as json."""
    for frame in frames:
        vector, record = embedder(frame), {"image": frame.name, "threshold": threshold}
        name = frame.name
        if frame.time is not None:
            record["frame"] = frame.index
            name = f"{name}, frame {frame.index}"
        if vector is None:
            record |= {"person": None, "nearest": None, "distance": None}
            said = f"nothing: {embedder.nothing_detected}"
        else:
            row, distance = gallery.nearest(vector, embedder.embed_boxes.distance)
            nearest = gallery.people[row]
            person = nearest if distance <= threshold else None
            record |= {"person": person, "nearest": nearest, "picture": gallery.files[row], "distance": distance}
            said = f"{person} {distance:.4f}" if person else f"unknown (nearest {nearest} {distance:.4f})"
        if not config.json:
            say(f"{name}: {said}")
        yield record
