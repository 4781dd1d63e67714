"""`detect embed`: write a gallery of embeddings of known identities."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from detect.config.constraints import Precision
from detect.config.fusion import MeanConfig
from detect.errors import UserError
from detect.hub import resolve
from detect.utils.locks import locked_files, under
from detect.utils.names import require_names, say
from detect.utils.progress import track


@dataclass(frozen=True)
class EmbedConfig:
    """Build a gallery of known identities: the embedding of every image in a folder.

    An image in a subfolder shows the identity that the subfolder is named after; any other, the one that its own file
    is named after.
    """

    weights: list[str]
    """Weights file of an embedder. Several: their squared distances are averaged, and identify uses all of them."""
    source: str
    """Folder of images, one subfolder for each identity; or an image."""
    out: str = "gallery.safetensors"
    """Gallery file to write."""
    detector: list[str] = field(default_factory=list)
    """Weights that cut the object out of the image first. Each detector cuts out its best box; a landmarker also aligns
    what it finds. Several: each runs on the crops of the one before it."""
    fusion: MeanConfig = field(default_factory=MeanConfig)
    """How the embeddings of several --weights become one."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""


@under(lambda config: locked_files(config.out, kind="gallery"))
def embed(config: EmbedConfig) -> Path:
    """Build the gallery, and write it to `out`.

    Returns:
        The gallery file.

    Raises:
        UserError: there is no image, or none in which the detectors find anything.
    """
    import numpy as np

    from detect.data.images import read_image
    from detect.embedding.gallery import Gallery, fingerprints
    from detect.embedding.image_embedder import ImageEmbedder
    from detect.types import Frame

    source, out = Path(config.source), Path(config.out)
    images = known_people(source)
    weights, croppers = ([str(resolve(path)) for path in some] for some in (config.weights, config.detector))
    # First: a file that changes while it is used then fits no gallery.
    made_by, cropped_by = fingerprints(weights), fingerprints(croppers)
    embedder = ImageEmbedder(weights, croppers, config.device, config.precision, config.fusion.weights)
    vectors, people, files = [], [], []
    for person, file in track(iter(images), len(images), "embed"):
        vector = embedder(Frame(read_image(file), file.name))
        if vector is None:
            say(f"left out: {file}: {embedder.nothing_detected}", sys.stderr)
            continue
        vectors.append(vector)
        people.append(person)
        files.append(file.relative_to(source).as_posix() if source.is_dir() else file.name)
    if not vectors:
        raise UserError(f"{source}: the detectors find nothing in any of {len(images)} images: no gallery was written")
    Gallery(np.stack(vectors), people, files, made_by, embedder.shares, cropped_by).save(out)
    say(f"{out}: {len(vectors)} images of {len(set(people))} people")
    return out


def known_people(source: Path) -> list[tuple[str, Path]]:
    """Every image under `source` with its identity: its folder there, or the name of an image that is in none.

    Raises UserError where there is no image, or names differ in blanks or Unicode form alone.
    """
    from detect.data.image_formats import is_image

    if source.is_file():
        return [(source.stem, source)]
    if not source.is_dir():
        raise UserError(f"source {str(source)!r}: no such file or folder")
    files = sorted(f for f in source.rglob("*") if f.is_file() and is_image(f))
    if not files:
        raise UserError(f"folder {source}: there is no image in it, so a gallery would be empty")
    places = [(file, file.relative_to(source).parts) for file in files]
    people = [(parts[0] if len(parts) > 1 else file.stem, file) for file, parts in places]
    names = sorted({person for person, _ in people})
    require_names(names, range(1, len(names) + 1), source, "person")
    return people
