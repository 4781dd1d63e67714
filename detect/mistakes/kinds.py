"""What a label error is: its kind, how likely it is one, and the label that is suggested instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detect.data.annotations import Annotations

MISSING, SPURIOUS, CLASS, LOCATION, DUPLICATE, CONFLICT = (
    *("missing", "spurious", "class", "location", "duplicate"),
    "near_duplicate",
)
KINDS = {
    MISSING: "an object without a label",
    SPURIOUS: "a label without an object",
    CLASS: "a label of the wrong class",
    LOCATION: "a box that is loose, tight or shifted",
    DUPLICATE: "a second label of one object",
    CONFLICT: "of two nearly equal images, the one whose label is wrong",
}
ACTIONS = {MISSING: "add", SPURIOUS: "remove", CLASS: "rename", LOCATION: "move", DUPLICATE: "remove"}

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One label that is probably wrong.

    Attributes:
        kind: a key of `KINDS`.
        score: 0 to 1, the higher the likelier it is a mistake.
        image: index of the image.
        row: the annotation; -1 where one is missing.
        action: what is suggested: "add", "remove", "rename" (another class) or "move" (another box).
        box: the suggested box x, y, width, height in pixels; that of the label where it stays.
        label: the suggested class.
        twin: of a near duplicate, the index of the other image; -1 else.
    """

    kind: str
    score: float
    image: int
    row: int
    action: str
    box: Box
    label: int
    twin: int = -1


def record(one: Mistake, rank: int, annotations: Annotations) -> dict[str, Any]:
    """Return a mistake as plain values, with the ids of its image, annotation and class."""
    known = one.row >= 0
    suggestion: dict[str, Any] = {"action": one.action}
    if one.action != "remove":
        suggestion |= {"class": annotations.names[one.label], "category_id": int(annotations.category_ids[one.label])}
        suggestion |= {"bbox": [round(value, 2) for value in one.box]}
    return {
        "rank": rank,
        "image": annotations.file_name(one.image),
        "image_id": int(annotations.image_ids[one.image]),
        "annotation_id": int(annotations.ids[one.row]) if known else None,
        "kind": one.kind,
        "score": round(one.score, 4),
        "class": annotations.names[annotations.labels[one.row]] if known else None,
        "bbox": annotations.boxes[one.row].tolist() if known else None,
        "suggestion": suggestion,
        "near_duplicate_of": annotations.file_name(one.twin) if one.twin >= 0 else None,
    }


def said(one: Mistake, annotations: Annotations) -> str:
    """Return what is suggested in a few words: "add RBC", "WBC (id 7) to RBC"."""
    name = annotations.names[one.label]
    if one.action == "add":
        return f"add {name}"
    label = f"{annotations.names[annotations.labels[one.row]]} (id {annotations.ids[one.row]})"
    return {"remove": f"remove {label}", "rename": f"{label} to {name}", "move": f"move {label}"}[one.action]
