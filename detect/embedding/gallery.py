"""A gallery: the embeddings of known identities, with the fingerprints of the weights that computed them.

Axes: N images, D dimensions of an embedding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from detect.config.constraints import Positive, from_values
from detect.errors import UserError
from detect.inference.identity import digest
from detect.models.weights import require_format
from detect.types import Distance
from detect.utils.atomic_io import open_file, replace_file

FORMAT = 2  # 1: of one embedder
_KEY = "gridhead_gallery"
_LONGEST = 1.01  # largest norm of an embedding: 1, except for rounding


@dataclass(frozen=True, eq=False)
class Gallery:
    """Embeddings of enrolled images.

    Attributes:
        vectors: (N, D) float32 embeddings.
        people: (N) identity of each.
        files: (N) the image file of each.
        weights: paths and fingerprints (SHA-256) of the weights that computed them, in the order in which their
            embeddings are joined.
        shares: weight of each of these.
        detectors: paths and fingerprints of the weights that cropped the images first, one after the other.
    """

    vectors: np.ndarray
    people: list[str]
    files: list[str]
    weights: list[tuple[str, str]]
    shares: list[float]
    detectors: list[tuple[str, str]] = field(default_factory=list)

    def nearest(self, vector: np.ndarray, distance: Distance) -> tuple[int, float]:
        """The row nearest to an embedding (D,), and its distance."""
        distances = distance(self.vectors, vector)
        row = int(distances.argmin())
        return row, float(distances[row])

    def save(self, path: Path) -> None:
        """Write the gallery to `path` atomically."""
        about = {"format": FORMAT, "people": self.people, "files": self.files}
        about |= {"weights": self.weights, "shares": self.shares, "detectors": self.detectors}
        header = {_KEY: json.dumps(about)}
        replace_file(path, lambda part: part.write_bytes(save({"vectors": self.vectors}, header)))

    @staticmethod
    def load(path: Path) -> Gallery:
        """Read a gallery. Raises UserError for a file that is missing, damaged, empty or not a gallery."""
        if path.is_dir():
            raise UserError(f"{path} is not a gallery but a folder: name the file in it")
        try:
            open_file(path).close()
            with safe_open(path, "numpy") as file:
                about = json.loads((file.metadata() or {}).get(_KEY, "null"))
                if about is None:
                    raise UserError(f"{path} is not a gallery: make one with detect embed")
                kind, shape = file.get_slice("vectors").get_dtype(), file.get_slice("vectors").get_shape()
                if kind != "F32" or len(shape) != 2:
                    raise UserError(
                        f"{path} is damaged: its embeddings are {kind} {shape}, not F32 (N, D): make it again"
                    )
                vectors = file.get_tensor("vectors")
            made = _header(about, path)
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a gallery that can be read: {error}") from error
        if not len(vectors) == len(made.people) == len(made.files):
            raise UserError(f"{path} is damaged: it has different numbers of images and embeddings: make it again")
        if not vectors.size:
            raise UserError(f"{path} is an empty gallery: make it again with detect embed")
        if not np.isfinite(vectors).all():
            raise UserError(f"{path} is damaged: its embeddings hold NaN or infinity: make it again")
        if np.abs(vectors).max() > _LONGEST or np.linalg.norm(vectors, axis=1).max() > _LONGEST:
            raise UserError(f"{path} is damaged: its embeddings are longer than 1: make it again")
        return Gallery(vectors, made.people, made.files, made.weights, made.shares, made.detectors)


@dataclass(frozen=True)
class _About:
    """The header of a gallery."""

    format: int
    people: list[str]
    files: list[str]
    weights: list[tuple[str, str]]
    shares: list[Positive]
    detectors: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _FirstAbout:
    """The header of a gallery of format 1."""

    format: int
    people: list[str]
    files: list[str]
    weights: str
    fingerprint: str
    detectors: list[tuple[str, str]] = field(default_factory=list)


def _header(about: Any, path: Path) -> _About:
    """The header of a gallery of any format. Raises UserError where its values are not allowed."""
    if isinstance(about, dict) and "format" in about:
        require_format(about["format"], FORMAT, path)
        if about["format"] == 1:
            old = from_values(_FirstAbout, about, f"{path}: ")
            return _About(FORMAT, old.people, old.files, [(old.weights, old.fingerprint)], [1.0], old.detectors)
    made = from_values(_About, about, f"{path}: ")
    if not len(made.weights) == len(made.shares) > 0:
        raise UserError(f"{path} is damaged: it has different numbers of weights and shares: make it again")
    return made


def fingerprints(weights: Sequence[str]) -> list[tuple[str, str]]:
    """Absolute path and SHA-256 of each weights file. Raises UserError where one cannot be read."""
    return [(str(path.resolve()), digest(path)) for path in map(Path, weights)]
