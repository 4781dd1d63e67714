"""The page of `detect mistakes`: the likeliest mistakes of each kind, drawn, and a table of all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import chain, zip_longest

from detect.commands.mistakes import MistakesConfig
from detect.data.annotations import Annotations
from detect.data_check.short_names import ShortNames
from detect.data_check.thumbnails import Job, Thumbnail
from detect.data_check.thumbnails import drawn as drawn_within
from detect.mistakes.drawing import drawn
from detect.mistakes.kinds import CONFLICT, KINDS, MISSING, Mistake, said
from detect.report.html import Page
from detect.utils.names import counted

LARGEST = 4_900_000  # bytes of the page, so that it can be sent by mail and opens at once
LISTED = 500  # mistakes in the table; mistakes.json has all
SIDE, SINGLE, PAIR = 260, 200, 420  # pixels: longer side of an image, and width of one and of two side by side
TITLES = {
    MISSING: "Missing labels",
    "spurious": "Spurious labels",
    "class": "Wrong classes",
    "location": "Loose or shifted boxes",
    "duplicate": "Duplicates",
    CONFLICT: "Wrong side of near duplicates",
}


def html(config: MistakesConfig, listed: Sequence[Mistake], annotations: Annotations, about: str) -> str:
    """Return the page, which shows as many mistakes as it has room for: of each kind the likeliest ones.

    Args:
        config: the options of the command.
        listed: the mistakes, the likeliest first.
        annotations: the labels.
        about: a sentence on where the predictions come from.
    """
    names = ShortNames(
        (str(annotations.image_path(i)) for i in range(len(annotations))), str(annotations.root) + os.sep
    )
    kinds = {kind: [(n, one) for n, one in enumerate(listed, 1) if one.kind == kind] for kind in KINDS}
    jobs: list[list[Job]] = [
        [(kind, partial(_thumbnail, n, one, annotations, names)) for n, one in some] for kind, some in kinds.items()
    ]
    order = [job for job in chain.from_iterable(zip_longest(*jobs)) if job is not None]
    page = Page(f"Labels of {config.data} ({config.split}) that may be wrong")
    page.text(f"{about} Red and dashed: the label. Green: what is suggested. Blue: other labels.")
    room = LARGEST - 600 * min(len(listed), LISTED) - 100_000
    shown, _ = drawn_within(order, room)
    page.table(("kind", "what", "found"), [(TITLES[k], KINDS[k], len(some)) for k, some in kinds.items()], filter=False)
    for kind, some in kinds.items():
        images = shown.get(kind, [])
        if some:
            page.heading(f"{TITLES[kind]}: {len(some):,}")
            if len(images) < len(some):
                page.text(f"The likeliest {len(images):,} of {len(some):,} are shown.")
            gallery = [(shot.image, shot.caption, shot.path) for shot in images]
            page.gallery(gallery, side=PAIR if kind == CONFLICT else SINGLE)
    page.heading("All of them")
    rows = [_row(n, one, annotations, names) for n, one in enumerate(listed[:LISTED], 1)]
    page.table(("rank", "score", "kind", "image", "label", "suggestion"), rows)
    if listed[LISTED:]:
        page.text(f"… and {counted(len(listed) - LISTED, 'other')}: mistakes.json has them all.")
    return str(page)


def _thumbnail(rank: int, one: Mistake, annotations: Annotations, names: ShortNames) -> Thumbnail | None:
    image, path = drawn(one, annotations, SIDE), str(annotations.image_path(one.image))
    if image is None:
        return None
    return Thumbnail(image, f"{rank}. {said(one, annotations)} ({one.score:.2f}): {names(path)}", path)


def _row(rank: int, one: Mistake, annotations: Annotations, names: ShortNames) -> tuple[object, ...]:
    label = annotations.names[annotations.labels[one.row]] if one.row >= 0 else None
    path = str(annotations.image_path(one.image))
    return rank, one.score, TITLES[one.kind], names(path), label, said(one, annotations)
