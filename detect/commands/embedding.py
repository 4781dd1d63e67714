"""`detect embed`, `detect verify` and `detect identify`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detect.api import Detector
from detect.config.options import EmbedConfig, IdentifyConfig, VerifyConfig
from detect.data.alignment import aligned
from detect.data.images import is_image, read_image
from detect.embedding.gallery import Gallery, fingerprint
from detect.errors import UserError
from detect.inference.box_embedder import Describer, cuts, require_embedder
from detect.inference.source import open_source
from detect.types import Frame, Postprocess
from detect.utils.locks import locked_files, under
from detect.utils.names import require_names, say
from detect.utils.progress import track

SURE = 0.25  # the least score of what a detector cuts out


class Finder:
    """Pictures to what weights find in them: a landmarker's aligned, a detector's best box with its margin."""

    def __init__(self, path: str, device: str, precision: str) -> None:
        detector = Detector.load(path, device, precision)
        self.shape = np.array(detector.metadata.shape)
        if detector.model.task not in ("detect", "keypoints", "landmarks"):
            raise UserError(f"--detector {path} is no detector: it must find boxes, or landmarks")
        if detector.model.task == "landmarks" and not len(self.shape):
            raise UserError(f"--detector {path} does not know where its points lie on average: train it again")
        self.predictor, self.stretch = detector.predictor(Postprocess(SURE, limit=1)), detector.metadata.pixels.stretch

    def __call__(self, image: np.ndarray, stretch: bool) -> np.ndarray | None:
        """What is found in a picture (H, W, 3), cut out for a network that will `stretch` it or not; None: nothing."""
        ((_, found),) = self.predictor([Frame(image, "")])
        if len(self.shape):
            return aligned(image, found, self.shape)
        return next(iter(cuts(image, found.boxes[:1].double().numpy(), stretch)), None)


class Eyes:
    """Frames to vectors, of the whole picture or of what finders find in it first, one after the other."""

    def __init__(self, weights: str, detectors: Sequence[str], device: str, precision: str) -> None:
        self.embedder = Detector.load(weights, device, precision)
        require_embedder(self.embedder, weights)
        self.describe = Describer(self.embedder)
        self.finders = [Finder(path, device, precision) for path in detectors]
        self.blind = f"{' and '.join(detectors)} find{'s' * (len(detectors) == 1)} nothing in it to cut out"

    def __call__(self, frame: Frame) -> np.ndarray | None:
        """The vector (D,) of a frame; None where there is nothing to cut out."""
        stretches = [*(finder.stretch for finder in self.finders[1:]), self.describe.stretch]
        image: np.ndarray | None = frame.image
        for finder, stretch in zip(self.finders, stretches, strict=False):
            if image is not None:
                image = finder(image, stretch)
        if image is None:
            return None
        ((_, one),) = self.describe.predictor([replace(frame, image=image)])
        return one.values

    def threshold(self, given: float, name: str, weights: str) -> float:
        """`given`, or the threshold of the weights called `name`. Raises UserError where they have none."""
        known = self.embedder.metadata.thresholds
        if not given and name not in known:
            raise UserError(f"{weights} has no threshold, for it was not measured on held-out pairs: give --threshold")
        return given or known[name]


@under(lambda config: locked_files(config.out, kind="gallery"))
def embed(config: EmbedConfig) -> Path:
    """Write the gallery of the people of a source."""
    source, out = Path(config.source), Path(config.out)
    pictures = known_people(source)
    print_of = fingerprint(Path(config.weights))  # first: should the file change now, the gallery fits neither
    detectors = [(str(Path(path).resolve()), fingerprint(Path(path))) for path in config.detector]
    eyes = Eyes(config.weights, config.detector, config.device, config.precision)
    vectors, people, files = [], [], []
    for person, file in track(iter(pictures), len(pictures), "embed"):
        vector = eyes(Frame(read_image(file), file.name))
        if vector is None:
            say(f"left out: {file}: {eyes.blind}", sys.stderr)
            continue
        vectors.append(vector)
        people.append(person)
        files.append(file.relative_to(source).as_posix() if source.is_dir() else file.name)
    if not vectors:
        raise UserError(f"{source}: nothing to cut out in any of {len(pictures)} pictures: no gallery was written")
    Gallery(np.stack(vectors), people, files, str(Path(config.weights).resolve()), print_of, detectors).save(out)
    say(f"{out}: {len(vectors)} pictures of {len(set(people))} people")
    return out


def known_people(source: Path) -> list[tuple[str, Path]]:
    """Every picture under `source` with who it shows: its folder there, or the name of a picture that is in none.

    Raises UserError where there is no picture, or names differ in blanks or Unicode form alone.
    """
    if source.is_file():
        return [(source.stem, source)]
    if not source.is_dir():
        raise UserError(f"source {str(source)!r}: no such file or folder")
    files = sorted(f for f in source.rglob("*") if f.is_file() and is_image(f))
    if not files:
        raise UserError(f"folder {source}: no picture in it, so there is nobody for a gallery")
    places = [(file, file.relative_to(source).parts) for file in files]
    people = [(parts[0] if len(parts) > 1 else file.stem, file) for file, parts in places]
    names = sorted({person for person, _ in people})
    require_names(names, range(1, len(names) + 1), source, "person")
    return people


def verify(config: VerifyConfig) -> dict[str, Any]:
    """Say whether two pictures show one person."""
    eyes = Eyes(config.weights, config.detector, config.device, config.precision)
    threshold = eyes.threshold(config.threshold, "accuracy", config.weights)
    vectors = []
    for name in (config.a, config.b):
        vector = eyes(Frame(read_image(Path(name)), name))
        if vector is None:
            raise UserError(f"{name}: {eyes.blind}")
        vectors.append(vector)
    distance = float(eyes.describe.distance(*vectors))
    result = {"distance": distance, "threshold": threshold, "same": distance <= threshold}
    said = f"distance {distance:.4f}, threshold {threshold:.4f}: {'same' if result['same'] else 'different'}"
    say(json.dumps(result) if config.json else said)
    return result


def identify(config: IdentifyConfig) -> list[dict[str, Any]]:
    """Say who of a gallery is in each picture of a source."""
    gallery = Gallery.load(Path(config.gallery))
    weights = config.weights or gallery.weights
    if not Path(weights).is_file():
        raise UserError(f"{config.gallery} was made by {weights}, which is not there: say where they are by --weights")
    if fingerprint(Path(weights)) != gallery.fingerprint:
        raise UserError(f"{config.gallery} was made by other weights than {weights}: make it again with detect embed")
    if config.detector is None:
        _require_same(config.gallery, gallery.detectors)
    detectors = [path for path, _ in gallery.detectors] if config.detector is None else config.detector
    eyes = Eyes(weights, detectors, config.device, config.precision)
    if gallery.vectors.shape[1] != eyes.describe.dimensions:
        raise UserError(
            f"{config.gallery} is damaged: its vectors are not as long as those of {weights}: make it again"
        )
    threshold = eyes.threshold(config.threshold, "far_1pct", weights)
    with open_source(config.source) as source:
        found = list(_identified(config, gallery, eyes, threshold, track(iter(source), source.count, "identify")))
    if config.json:
        say(json.dumps(found))
    return found


def _require_same(name: str, detectors: list[tuple[str, str]]) -> None:
    """Raises UserError where a detector of the gallery `name` is not there, or another."""
    for path, made_by in detectors:
        if not Path(path).is_file():
            raise UserError(f"{name} was made with {path}, which is not there: say where it is by --detector")
        if fingerprint(Path(path)) != made_by:
            raise UserError(f"{name} was made with another {path}: make it again, or take this one by --detector")


def _identified(
    config: IdentifyConfig, gallery: Gallery, eyes: Eyes, threshold: float, frames: Iterator[Frame]
) -> Iterator[dict[str, Any]]:
    """The record of each frame; said at once, line by line, unless as json."""
    for frame in frames:
        vector, record = eyes(frame), {"image": frame.name, "threshold": threshold}
        name = frame.name
        if frame.time is not None:
            record["frame"] = frame.index
            name = f"{name}, frame {frame.index}"
        if vector is None:
            record |= {"person": None, "nearest": None, "distance": None}
            said = f"nothing: {eyes.blind}"
        else:
            row, distance = gallery.nearest(vector, eyes.describe.distance)
            nearest = gallery.people[row]
            person = nearest if distance <= threshold else None
            record |= {"person": person, "nearest": nearest, "picture": gallery.files[row], "distance": distance}
            said = f"{person} {distance:.4f}" if person else f"unknown (nearest {nearest} {distance:.4f})"
        if not config.json:
            say(f"{name}: {said}")
        yield record
