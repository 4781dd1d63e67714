"""A gallery: the embeddings of known identities, with the fingerprint of the weights that computed them.

Axes: N images, D dimensions of an embedding.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from detect.config.constraints import from_values
from detect.errors import UserError
from detect.models.weights import require_format
from detect.types import Distance
from detect.utils.atomic_io import open_file, read_bytes, replace_file

FORMAT = 1
_KEY = "gridhead_gallery"
_LONGEST = 1.01  # largest norm of an embedding: 1, except for rounding


@dataclass(frozen=True, eq=False)
class Gallery:
    """Embeddings of enrolled images.

    Attributes:
        vectors: (N, D) float32 embeddings.
        people: (N) identity of each.
        files: (N) the image file of each.
        weights: path of the weights that computed them.
        fingerprint: SHA-256 of these weights.
        detectors: paths and fingerprints of the weights that cropped the images first, one after the other.
    """

    vectors: np.ndarray
    people: list[str]
    files: list[str]
    weights: str
    fingerprint: str
    detectors: list[tuple[str, str]] = field(default_factory=list)

    def nearest(self, vector: np.ndarray, distance: Distance) -> tuple[int, float]:
        """The row nearest to an embedding (D,), and its distance."""
        distances = distance(self.vectors, vector)
        row = int(distances.argmin())
        return row, float(distances[row])

    def save(self, path: Path) -> None:
        """Write the gallery to `path` atomically."""
        about = {"format": FORMAT, "people": self.people, "files": self.files}
        about |= {"weights": self.weights, "fingerprint": self.fingerprint, "detectors": self.detectors}
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
            made = from_values(_About, about, f"{path}: ")
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a gallery that can be read: {error}") from error
        require_format(made.format, FORMAT, path)
        if not len(vectors) == len(made.people) == len(made.files):
            raise UserError(f"{path} is damaged: it has different numbers of images and embeddings: make it again")
        if not vectors.size:
            raise UserError(f"{path} is an empty gallery: make it again with detect embed")
        if not np.isfinite(vectors).all():
            raise UserError(f"{path} is damaged: its embeddings hold NaN or infinity: make it again")
        if np.abs(vectors).max() > _LONGEST or np.linalg.norm(vectors, axis=1).max() > _LONGEST:
            raise UserError(f"{path} is damaged: its embeddings are longer than 1: make it again")
        return Gallery(vectors, made.people, made.files, made.weights, made.fingerprint, made.detectors)


@dataclass(frozen=True)
class _About:
    """The header of a gallery."""

    format: int
    people: list[str]
    files: list[str]
    weights: str
    fingerprint: str
    detectors: list[tuple[str, str]] = field(default_factory=list)


def fingerprint(weights: Path) -> str:
    """The SHA-256 of a weights file. Raises UserError where it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(weights)).hexdigest()
    except OSError as error:
        raise UserError(f"{weights} is not a weights file that can be read: {error.strerror}") from error
