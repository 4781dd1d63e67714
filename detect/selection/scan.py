"""One look at every unlabelled and labelled image: predictions, views, features, and what tells duplicates."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.api import Detector
from detect.data.annotations import Annotations
from detect.data.boxes import objects
from detect.data_check.images import Seen, thumbnail
from detect.errors import UserError
from detect.inference.feature_predictor import FeaturePredictor
from detect.inference.predictor import Predictor
from detect.inference.source import ImagePart, Source
from detect.inference.tta import SCALES, mirror
from detect.types import Classification, Frame, Postprocess
from detect.utils.names import key
from detect.utils.progress import track


@dataclass
class Scanned:
    """What was found in images, one item each: name, page, what tells duplicates, result, views and features (D,)."""

    names: list[str] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    views: list[list[Any]] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    @property
    def features(self) -> np.ndarray:
        """The features (I, D); D is 0 without any."""
        return np.stack(self.vectors) if self.vectors else np.zeros((len(self.seen), 0), np.float32)


@dataclass(frozen=True)
class Look:
    """How images are looked at.

    Attributes:
        detector: the model.
        keep: which predictions are kept.
        side: image size in pixels.
        batch: images that go through the network together.
        features: whether features are asked for.
        views: whether the mirrored and the smaller image are predicted, too.
    """

    detector: Detector
    keep: Postprocess
    side: int
    batch: int
    features: bool
    views: bool

    def predictor(self, side: int, features: bool = False) -> Predictor:
        """A predictor for images of that size; with `features` its results are pairs of result and vector."""
        options = side, self.keep, self.batch, self.detector.device, self.detector.dtype
        return (FeaturePredictor if features else Predictor)(self.detector.model, *options)


def scan_source(look: Look, source: Source) -> Scanned:
    """Look at all images of a source.

    Raises:
        UserError: a part of it is no image, or cannot be read.
    """
    if other := next((part.name for part in source.parts if not isinstance(part, ImagePart)), ""):
        raise UserError(f"{other} is no image: detect next chooses among images; save frames of videos as such")
    found = Scanned()

    def noted() -> Iterator[Frame]:
        for frame in source:
            found.seen.append(_seen(source.files[frame.part], frame.image))
            found.pages.append(frame.index)
            found.names.append(frame.name if frame.pages == 1 else f"{frame.name}, page {frame.index + 1}")
            yield frame

    with closing(track(noted(), source.count, "look at images")) as frames:
        _predict(look, frames, found)
    side = round(look.side * SCALES[1])
    if look.views and found.names and _takes(look.detector, side):
        again = track(source, len(found.names), "look at smaller images")
        with closing(again), closing(look.predictor(side)(again)) as pairs:
            for views, (_, result) in zip(found.views, pairs, strict=True):
                views.append(result)
    return found


def scan_labelled(look: Look, annotations: Annotations) -> Scanned:
    """Look at all images of a dataset: what tells duplicates and, where they are asked for, features."""
    found = Scanned()

    def noted() -> Iterator[Frame]:
        for i in range(len(annotations)):
            image = annotations.read(i)
            found.seen.append(_seen(annotations.image_path(i), image))
            found.names.append(annotations.file_name(i))
            yield Frame(image, found.names[-1])

    with closing(track(noted(), len(annotations), "look at labelled images")) as frames:
        if look.features:
            _predict(replace(look, views=False), frames, found)
        else:
            deque(frames, maxlen=0)
    return found


def class_counts(annotations: Annotations, names: Sequence[str]) -> np.ndarray:
    """How many annotated objects each of these classes has (C,), by name; crowds do not count."""
    labels = annotations.labels[objects(annotations)]
    counts = np.bincount(labels, minlength=len(annotations.names))
    known = {key(name): int(count) for name, count in zip(annotations.names, counts, strict=True)}
    return np.array([known.get(key(name), 0) for name in names], np.float64)


def _predict(look: Look, frames: Iterator[Frame], found: Scanned) -> None:
    """Predict images, and their mirror images where views are asked for."""
    predictor = look.predictor(look.side, look.features)
    with closing(predictor(_with_mirrored(frames) if look.views else frames)) as pairs:
        for frame, value in pairs:
            result, vector = value if look.features else (value, None)
            found.results.append(result)
            if vector is not None:
                found.vectors.append(vector)
            if look.views:
                turned = next(pairs)[1]
                turned = turned[0] if look.features else turned
                width = frame.image.shape[1]
                found.views.append([turned if isinstance(turned, Classification) else mirror(turned, width)])


def _takes(detector: Detector, side: int) -> bool:
    """Whether the model takes images of that size, which some take not."""
    with suppress(UserError):
        detector.side(side)
        return True
    return False


def _with_mirrored(frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        yield replace(frame, image=np.ascontiguousarray(frame.image[:, ::-1]))


def _seen(path: Path, image: np.ndarray) -> Seen:
    """What tells duplicates of an image: its pixels, whatever its file says besides."""
    return Seen(path, hashlib.sha256(image.tobytes()).hexdigest(), thumbnail(image))
