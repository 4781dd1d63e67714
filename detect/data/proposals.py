"""Proposals of the images of a dataset: searched once, kept on disk, part of the targets."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from detect.data import selective_search as search
from detect.data.annotations import Annotations
from detect.errors import UserError
from detect.utils.atomic_io import open_file, replace_file
from detect.utils.npy import UNREADABLE, read_npy
from detect.utils.progress import track

VERSION = f"{search.STARTS} {search.SIGMA} {search.LONGEST} {search.LEAST} {search.MOST} 1"


def with_proposals(annotations: Annotations, folder: Path) -> Annotations:
    """Return annotations with proposals, found by selective search where `folder` does not hold them yet.

    A file an image, named after the image's place, length and time of change and the settings of the search.
    Raises UserError for an image that cannot be read, a folder that cannot be written, or without scikit-image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    indices = range(len(annotations))
    files = [folder / f"{key(annotations, i)}.npy" for i in indices]
    missing = [i for i in indices if not files[i].exists()]
    for i in track(missing, len(missing), "proposals") if missing else ():
        replace_file(files[i], partial(_save, rows=search.selective_search(annotations.read(i))))
    rows = [read_rows(file) for file in files]
    starts = np.cumsum([0, *map(len, rows)])
    return replace(annotations, proposals=np.concatenate([np.zeros((0, 4), np.float32), *rows]), proposal_starts=starts)


def read_rows(path: Path) -> np.ndarray:
    """Read the proposals (P, 4) in a file. Raises UserError for one that is damaged or holds something else."""
    try:
        with open_file(path) as file:
            rows = read_npy(file, path.stat().st_size)
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != 4 or not np.isfinite(rows).all():
            raise ValueError(f"it holds {rows.dtype} {list(rows.shape)}, not finite float32 (P, 4)")
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as proposals: {error}; delete it, and it is made again") from error
    return rows


def key(annotations: Annotations, index: int) -> str:
    """Return what the proposals of an image depend on, as a file name."""
    path = annotations.image_path(index)
    found = path.stat()
    about = f"{path.resolve()} {found.st_size} {found.st_mtime_ns} {annotations.size(index)} {VERSION}"
    return hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _save(part: Path, rows: np.ndarray) -> None:
    with part.open("wb") as out:  # np.save would add a suffix to a name
        np.save(out, rows, allow_pickle=False)
