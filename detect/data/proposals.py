"""Proposals of the pictures of a store: searched once, kept on disk, handed on with the truth."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from detect.data import search
from detect.data.store import Annotations
from detect.files import replace_file
from detect.progress import track

VERSION = f"{search.STARTS} {search.SIGMA} {search.LONGEST} {search.LEAST} {search.MOST} 1"


def with_proposals(store: Annotations, folder: Path) -> Annotations:
    """`store` with the proposals of its pictures, found by selective search where `folder` does not hold them yet.

    A file a picture, named after the picture's place, length and time of change and the settings of the search.
    Raises UserError for a picture that cannot be read, a folder that cannot be written, or without scikit-image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    indices = range(len(store))
    files = [folder / f"{key(store, i)}.npy" for i in indices]
    missing = [i for i in indices if not files[i].exists()]
    for i in track(missing, len(missing), "proposals") if missing else ():
        replace_file(files[i], partial(_save, rows=search.selective_search(store.read(i))))
    rows = [np.load(file, allow_pickle=False) for file in files]
    starts = np.cumsum([0, *map(len, rows)])
    return replace(store, proposals=np.concatenate([np.zeros((0, 4), np.float32), *rows]), proposal_starts=starts)


def key(store: Annotations, index: int) -> str:
    """What the proposals of a picture depend on, as a name."""
    path = store.image_path(index)
    found = path.stat()
    about = f"{path.resolve()} {found.st_size} {found.st_mtime_ns} {store.size(index)} {VERSION}"
    return hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _save(part: Path, rows: np.ndarray) -> None:
    with part.open("wb") as out:  # np.save would add a suffix to a name
        np.save(out, rows, allow_pickle=False)
