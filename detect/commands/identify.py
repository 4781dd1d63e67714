"""`detect identify`: say which identity of a gallery each image shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.config.constraints import Precision
from detect.errors import UserError
from detect.hub import resolve
from detect.utils.names import say
from detect.utils.progress import track

if TYPE_CHECKING:
    from detect.embedding.gallery import Gallery
    from detect.embedding.image_embedder import ImageEmbedder
    from detect.types import Frame


@dataclass(frozen=True)
class IdentifyConfig:
    """Identify who is in each image, by the nearest image of a gallery.

    An identity farther away than `threshold` is reported as unknown.
    """

    gallery: str
    """Gallery file of detect embed."""
    source: str
    """Image, folder, glob, video, camera number or stream URL."""
    weights: list[str] = field(default_factory=list)
    """Weights files, in the order of the gallery. Default: those the gallery was built with; any other are rejected."""
    threshold: float = 0.0
    """Largest distance to a known identity. Default (0): the one in the weights, at which 1 % of the validation pairs
    of two identities are taken for one. Needed with a gallery of several weights: detect evaluate prints it."""
    detector: list[str] | None = None
    """Weights that cut the object out of the image first. Each detector cuts out its best box; a landmarker also aligns
    what it finds. Several: each runs on the crops of the one before it. Default: those the gallery was built with; []:
    none."""
    json: bool = False
    """Print the results as JSON."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""


def identify(config: IdentifyConfig) -> list[dict[str, Any]]:
    """Identify the people of a gallery in each image of a source."""
    from detect.embedding.gallery import Gallery
    from detect.embedding.image_embedder import ImageEmbedder
    from detect.inference.source import open_source

    gallery = Gallery.load(Path(config.gallery))
    weights = [str(resolve(path)) for path in config.weights or (path for path, _ in gallery.weights)]
    _require_built_with(config.gallery, gallery.weights, weights)
    if config.detector is None:
        _require_same(config.gallery, gallery.detectors)
    detectors = [path for path, _ in gallery.detectors] if config.detector is None else config.detector
    shares = gallery.shares if len(weights) > 1 else ()
    embedder = ImageEmbedder(weights, detectors, config.device, config.precision, shares)
    if gallery.vectors.shape[1] != embedder.dimensions:
        raise UserError(
            f"{config.gallery} is damaged: its embeddings have another length than those of {' and '.join(weights)}: "
            "build it again"
        )
    threshold = embedder.threshold(config.threshold, "far_1pct")
    with open_source(config.source) as source:
        found = list(_identified(config, gallery, embedder, threshold, track(iter(source), source.count, "identify")))
    if config.json:
        say(json.dumps(found))
    return found


def _require_built_with(name: str, known: list[tuple[str, str]], weights: list[str]) -> None:
    """Raises UserError unless the gallery `name` was built with these weights, in this order."""
    from detect.inference.identity import digest

    for path in weights:
        if not Path(path).is_file():
            raise UserError(f"{name} was built with {path}, which is not there: give --weights")
    found, expected = [digest(Path(path)) for path in weights], [made_by for _, made_by in known]
    if found == expected:
        return
    if sorted(found) == sorted(expected):
        order = " ".join(weights[found.index(one)] for one in expected)
        raise UserError(f"{name} was built with these weights in another order: give --weights {order}")
    raise UserError(f"{name} was not built with {' and '.join(weights)}: build it again with detect embed")


def _require_same(name: str, detectors: list[tuple[str, str]]) -> None:
    """Raises UserError where a detector of the gallery `name` is not there, or another."""
    from detect.inference.identity import digest

    for path, made_by in detectors:
        if not Path(path).is_file():
            raise UserError(f"{name} was built with {path}, which is not there: give --detector")
        if digest(Path(path)) != made_by:
            raise UserError(f"{name} was built with another {path}: build it again, or give this one with --detector")


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
            row, distance = gallery.nearest(vector, embedder.distance)
            nearest = gallery.people[row]
            person = nearest if distance <= threshold else None
            record |= {"person": person, "nearest": nearest, "picture": gallery.files[row], "distance": distance}
            said = f"{person} {distance:.4f}" if person else f"unknown (nearest {nearest} {distance:.4f})"
        if not config.json:
            say(f"{name}: {said}")
        yield record
