"""Makes stylized copies of training images, which training takes for a share of the samples (`augment.stylized`)."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from detect.commands.stylize import StylizeConfig
from detect.data.annotations import Annotations
from detect.data.augment.stylized import ABOUT
from detect.data.image_writer import save_image
from detect.data.images import resize
from detect.data.rng import Stream, generator
from detect.data.sources.formats import load_data
from detect.data.validate import verify
from detect.errors import UserError
from detect.style.images import WRITTEN, to_image
from detect.utils.atomic_io import replace_text
from detect.utils.locks import locked_folder
from detect.utils.names import say
from detect.utils.progress import track

_PLACES = ("out", "data", "share", "device", "every")  # options that do not change a copy

Paint = Callable[[np.ndarray, np.ndarray], Iterator[tuple[Tensor, Any]]]


def copy_all(config: StylizeConfig, styles: Sequence[np.ndarray], paint: Paint) -> None:
    """Write the missing copies into --out, each with the name and size of its image.

    Args:
        config: the options of `detect stylize`.
        styles: the images (H, W, 3) uint8 whose style copies get.
        paint: makes a copy of a content and a style image.

    Raises:
        UserError: --out lies among the images, or holds other images or copies made with other options.
    """
    annotations = load_data(config.data, config.split, image_level_labels="images", allow_outside=config.allow_outside)
    annotations, out = verify(annotations, decode=False), Path(config.out)
    _require_apart(out, annotations, config.data)
    with locked_folder(out):
        _copy(config, annotations, styles, paint)


def _copy(config: StylizeConfig, annotations: Annotations, styles: Sequence[np.ndarray], paint: Paint) -> None:
    out = Path(config.out)
    draws = [generator(Stream.COPY, config.seed, i).random(2).tolist() for i in range(len(annotations))]
    chosen = [i for i, (share, _) in enumerate(draws) if share < config.share]
    missing = [i for i in chosen if not (out / annotations.file_name(i)).exists()]
    for i in missing:
        if Path(annotations.file_name(i)).suffix.lower() not in WRITTEN:
            raise UserError(f"{annotations.image_path(i)}: such files cannot be written: convert it to JPEG or PNG")
    if len(missing) < len(chosen) and not (out / ABOUT).exists():
        raise UserError(f"--out {out} holds images, but no {ABOUT} that tells how they were made: choose another --out")
    _claim(out, config)
    for i in track(missing, len(missing), "stylize"):
        content = annotations.read(i)
        *_, (image, _) = paint(content, styles[int(draws[i][1] * len(styles))])
        save_image(out / annotations.file_name(i), resize(to_image(image), content.shape[1], content.shape[0]))
    say(f"{out}: {len(chosen)} copies of {len(annotations)} images, {len(missing)} of them new")


def _require_apart(out: Path, annotations: Annotations, data: str) -> None:
    """Raise a UserError if copies in `out` would overwrite images of the dataset, or be taken for more of them."""
    parts = {os.path.dirname(annotations.file_name(i)) for i in range(len(annotations))}
    folders = [str((annotations.root / part).resolve()) for part in parts]
    place = out.resolve()
    if folders and (place == annotations.root.resolve() or place.is_relative_to(os.path.commonpath(folders))):
        raise UserError(f"--out {out} is where the images of {data} are: choose a folder beside them")


def _claim(out: Path, config: StylizeConfig) -> None:
    """Record the options of the copies in `out`.

    Raises:
        UserError: the copies in it were made with other options.
    """
    made = {k: v for k, v in dataclasses.asdict(config).items() if k not in _PLACES}
    path = out / ABOUT
    try:
        other = json.loads(path.read_text(encoding="utf-8")) if path.exists() else made
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; choose another --out") from error
    if not isinstance(other, dict):
        raise UserError(f"{path} does not tell how the copies beside it were made: choose another --out")
    if other != made:
        names = [name for name in made | other if other.get(name) != made.get(name)]
        raise UserError(f"{out} holds copies made with another --{names[0]}: choose another --out")
    replace_text(path, json.dumps(made, indent=1) + "\n")
