"""Stylized copies of training pictures: made once, drawn in training for a share of the samples (`data.copies`)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from detect.data.copies import ABOUT
from detect.data.dataset import Stream, generator
from detect.data.formats import load_data
from detect.data.images import resize
from detect.errors import UserError
from detect.files import replace_text
from detect.options import StylizeConfig
from detect.progress import track
from detect.style.files import WRITTEN, as_picture, write_image

_PLACES = ("out", "data", "share", "device", "every")  # what does not change a copy


Paint = Callable[[np.ndarray, np.ndarray], Iterator[tuple[Tensor, Any]]]


def copy_all(config: StylizeConfig, styles: Sequence[np.ndarray], paint: Paint) -> None:
    """Write the missing copies into --out, each under its picture's name and of its size.

    Raises UserError where --out holds copies made otherwise.
    """
    store, out = load_data(config.data, config.split, whole="pictures"), Path(config.out)
    if len(store) and (out / store.file_name(0)).resolve() == store.image_path(0).resolve():
        raise UserError(f"--out {out} is where the pictures of {config.data} lie: name another folder")
    draws = [generator(Stream.COPY, config.seed, i).random(2).tolist() for i in range(len(store))]
    chosen = [i for i, (share, _) in enumerate(draws) if share < config.share]
    missing = [i for i in chosen if not (out / store.file_name(i)).exists()]
    for i in missing:
        if Path(store.file_name(i)).suffix.lower() not in WRITTEN:
            raise UserError(f"{store.image_path(i)}: such files cannot be written: convert it to JPEG or PNG")
    _claim(out, config)
    for i in track(missing, len(missing), "stylize"):
        content = store.read(i)
        *_, (image, _) = paint(content, styles[int(draws[i][1] * len(styles))])
        write_image(out / store.file_name(i), resize(as_picture(image), content.shape[1], content.shape[0]))
    print(f"{out}: {len(chosen)} copies of {len(store)} pictures, {len(missing)} of them new")


def _claim(out: Path, config: StylizeConfig) -> None:
    made = {k: v for k, v in dataclasses.asdict(config).items() if k not in _PLACES}
    path = out / ABOUT
    try:
        other = json.loads(path.read_text(encoding="utf-8")) if path.exists() else made
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; choose another --out") from error
    if other != made:
        names = [name for name in made if other.get(name) != made[name]]
        raise UserError(f"{out} holds copies made with another --{names[0]}: choose another --out")
    replace_text(path, json.dumps(made, indent=1) + "\n")
