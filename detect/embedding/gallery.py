"""A gallery: the vectors of known people, made once, with the fingerprint of the weights that made them.

Axes: N pictures, D numbers of a vector.
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
_LONGEST = 1.01  # length of a vector: one, but for rounding


@dataclass(frozen=True, eq=False)
class Gallery:
    """vectors (N, D) float32; people and files (N): who each is, and its picture; what made it, with its fingerprint.

    weights made the vectors, of what detectors (files and their fingerprints), one after the other, had cut out.
    """

    vectors: np.ndarray
    people: list[str]
    files: list[str]
    weights: str
    fingerprint: str
    detectors: list[tuple[str, str]] = field(default_factory=list)

    def nearest(self, vector: np.ndarray, distance: Distance) -> tuple[int, float]:
        """The row of the picture nearest to a vector (D,), and how far that is."""
        apart = distance(self.vectors, vector)
        row = int(apart.argmin())
        return row, float(apart[row])

    def save(self, path: Path) -> None:
        """Write it to `path` atomically."""
        about = {"format": FORMAT, "people": self.people, "files": self.files}
        about |= {"weights": self.weights, "fingerprint": self.fingerprint, "detectors": self.detectors}
        header = {_KEY: json.dumps(about)}
        replace_file(path, lambda part: part.write_bytes(save({"vectors": self.vectors}, header)))

    @staticmethod
    def load(path: Path) -> Gallery:
        """The gallery in a file. Raises UserError for a file that is missing, damaged, empty or no gallery."""
        if path.is_dir():
            raise UserError(f"{path} is not a gallery but a folder: name the file in it")
        try:
            open_file(path).close()
            with safe_open(path, "numpy") as file:
                about = json.loads((file.metadata() or {}).get(_KEY, "null"))
                if about is None:
                    raise UserError(f"{path} is no gallery: make one with detect embed")
                kind, shape = file.get_slice("vectors").get_dtype(), file.get_slice("vectors").get_shape()
                if kind != "F32" or len(shape) != 2:
                    raise UserError(f"{path} is damaged: its vectors are {kind} {shape}, not F32 (N, D): make it again")
                vectors = file.get_tensor("vectors")
            made = from_values(_About, about, f"{path}: ")
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a gallery that can be read: {error}") from error
        require_format(made.format, FORMAT, path)
        if not len(vectors) == len(made.people) == len(made.files):
            raise UserError(f"{path} is damaged: its pictures and vectors are not as many: make it again")
        if not vectors.size:
            raise UserError(f"{path} is an empty gallery: it knows nobody")
        if not np.isfinite(vectors).all():
            raise UserError(f"{path} is damaged: its vectors hold NaN or infinity: make it again")
        if np.abs(vectors).max() > _LONGEST or np.linalg.norm(vectors, axis=1).max() > _LONGEST:
            raise UserError(f"{path} is damaged: its vectors are longer than one: make it again")
        return Gallery(vectors, made.people, made.files, made.weights, made.fingerprint, made.detectors)


@dataclass(frozen=True)
class _About:
    """What a gallery's header says."""

    format: int
    people: list[str]
    files: list[str]
    weights: str
    fingerprint: str
    detectors: list[tuple[str, str]] = field(default_factory=list)


def fingerprint(weights: Path) -> str:
    """What tells a weights file from every other: the SHA-256 of its bytes. Raises UserError where there is none."""
    try:
        return hashlib.sha256(read_bytes(weights)).hexdigest()
    except OSError as error:
        raise UserError(f"{weights} is not a weights file that can be read: {error.strerror}") from error
