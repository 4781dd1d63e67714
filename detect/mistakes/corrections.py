"""Suggestions as labels: marked for a person to review, or applied in a new dataset.

from detect.mistakes.corrections import corrected, for_review
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.roots import Roots
from detect.data.sources.coco import from_coco
from detect.labelling.labels import Labels
from detect.mistakes.kinds import Mistake, said

DONE = {"add": "added", "remove": "removed", "rename": "given another class", "move": "given another box"}


def for_review(annotations: Annotations, listed: Sequence[Mistake]) -> Labels:
    """Return the labels of the images that have a mistake, the likeliest first, for a labelling program.

    Labels stay as they are. Those that may be wrong are marked for review, with the suggestion as their note; missing
    ones are there as predictions with a score.

    Args:
        annotations: the labels.
        listed: the mistakes, the likeliest first.
    """
    labels = _edited(annotations, listed, lambda one: one.action == "add")
    order = list(dict.fromkeys(one.image for one in listed))
    rows = np.concatenate([np.arange(*labels.annotations.starts[i : i + 2]) for i in order] or [np.zeros(0, np.int64)])
    assert labels.scores is not None and labels.review is not None
    return Labels(
        labels.annotations.select(order),
        scores=labels.scores[rows],
        review=labels.review[rows],
        notes=[labels.notes[row] for row in rows.tolist()],
    )


def corrected(annotations: Annotations, listed: Sequence[Mistake], least: float) -> tuple[Labels, str]:
    """Return labels with the suggestions of a score of at least `least` applied, and a line on what changed.

    Objects with an outline or keypoints are removed or renamed, but neither added nor moved: a box alone would not
    do, so these are left to a person.
    """
    boxes_only = annotations.outlines is None and annotations.keypoints is None
    wanted = [one for one in listed if one.score >= least]
    done = [one for one in wanted if boxes_only or one.action in ("remove", "rename")]
    counts = Counter(one.action for one in done)
    line = ", ".join(f"{counts[action]:,} {words}" for action, words in DONE.items())
    if len(done) < len(wanted):
        line += f"; {len(wanted) - len(done):,} to add or move are left to you, for they need outlines or keypoints"
    chosen = set(map(id, done))
    return _edited(annotations, done, lambda one: id(one) in chosen), f"labels {line}"


def _edited(annotations: Annotations, listed: Sequence[Mistake], applied: Callable[[Mistake], bool]) -> Labels:
    """The labels after some suggestions, all of which are noted at their objects; missing ones have their score."""
    coco = annotations.to_coco()
    records: list[dict[str, Any]] = coco["annotations"]
    notes, scores, gone = dict[int, str](), dict[int, float](), set[int]()
    next_id = 1 + int(annotations.ids.max(initial=0))
    for one in listed:
        category = int(annotations.category_ids[one.label])
        area = one.box[2] * one.box[3]
        if one.action == "add":
            if applied(one):
                image = int(annotations.image_ids[one.image])
                new = {"id": next_id, "image_id": image, "category_id": category, "bbox": list(one.box)}
                records.append(new | {"area": area, "iscrowd": 0})
                notes[next_id], scores[next_id] = _note(one, annotations), one.score
                next_id += 1
            continue
        record = records[one.row]
        notes[record["id"]] = _note(one, annotations)
        if applied(one) and one.action == "remove":
            gone.add(one.row)
        elif applied(one) and one.action == "rename":
            record["category_id"] = category
        elif applied(one):
            record |= {"bbox": list(one.box), "area": area}
    coco["annotations"] = [record for row, record in enumerate(records) if row not in gone]
    root = Path(annotations.root)
    made = from_coco(
        coco, annotations.path, root, BadRecords(annotations.path, False), inside=Roots(root, anywhere=True)
    )
    ids = made.ids.tolist()
    return Labels(
        made,
        scores=np.array([scores.get(i, np.nan) for i in ids], float),
        review=np.array([i in notes for i in ids], bool),
        notes=[notes.get(i, "") for i in ids],
    )


def _note(one: Mistake, annotations: Annotations) -> str:
    return f"{one.kind} {one.score:.2f}: {said(one, annotations)}"


def free_folder(folder: Path) -> Path:
    """Return the folder, or the first of folder-2, folder-3, … that is not there: what people corrected stays."""
    count, free = 1, folder
    while free.exists():
        count += 1
        free = folder.with_name(f"{folder.name}-{count}")
    return free
