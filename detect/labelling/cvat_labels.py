"""The labels of a CVAT task: as its constructor takes them (raw), and as the head of its xml files declares them."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from detect.errors import UserError
from detect.labelling.labels import REVIEW, Labels
from detect.labelling.xml import child

LONGEST = 64  # characters of a label's name
POINTS = "_points"  # what the label of a skeleton adds to the name of its class


def label_list(several: list[Labels]) -> list[dict[str, Any]]:
    """The labels of a task with these images, as the raw view of CVAT's constructor takes them.

    Raises:
        UserError: a name is longer than CVAT takes.
    """
    names = dict.fromkeys(name for labels in several for name in labels.names)
    attributes = _attributes(several)
    found: list[dict[str, Any]] = [{"name": name, "type": "any", "attributes": attributes} for name in names]
    data = next((one.annotations for one in several if one.annotations.keypoint_names), None)
    if data is not None:
        points = [{"name": name, "type": "points", "attributes": []} for name in data.keypoint_names]
        drawing = _drawing(data.keypoint_names, data.skeleton)
        for name in names:
            found.append(
                {"name": name + POINTS, "type": "skeleton", "attributes": [], "sublabels": points, "svg": drawing}
            )
    given = (label["name"] for one in found for label in (one, *one.get("sublabels", ())))
    if long := next((name for name in given if len(name) > LONGEST), None):
        raise UserError(f"CVAT takes names of {LONGEST} characters at most, not the {len(long)} of {long!r}: rename it")
    return found


def _attributes(several: list[Labels]) -> list[dict[str, Any]]:
    """The attributes of every label: those that an object has."""
    found = list[tuple[str, str, str, list[str]]]()
    if any(labels.scores is not None for labels in several):
        found.append(("score", "text", "", []))
    if any(labels.review is not None for labels in several):
        found.append((REVIEW, "checkbox", "false", ["false"]))
    if any(labels.has_tracks for labels in several):
        found.append(("track_id", "text", "", []))
    if any(labels.notes for labels in several):
        found.append(("note", "text", "", []))
    return [
        {"name": name, "mutable": True, "input_type": kind, "default_value": default, "values": values or [""]}
        for name, kind, default, values in found
    ]


def _drawing(names: list[str], skeleton: list[list[int]]) -> str:
    """The drawing of a skeleton for CVAT's constructor: keypoints on a circle, of 100 units in width, and the lines."""
    around = [2 * math.pi * k / max(len(names), 1) for k in range(len(names))]
    spots = [(round(50 + 40 * math.sin(turn), 2), round(50 - 40 * math.cos(turn), 2)) for turn in around]
    lines = "".join(
        f'<line x1="{spots[a][0]}" y1="{spots[a][1]}" x2="{spots[b][0]}" y2="{spots[b][1]}" data-type="edge" '
        f'data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in skeleton
    )
    circles = "".join(
        f'<circle r="0.75" cx="{x}" cy="{y}" data-type="element node" data-element-id="{k}" data-node-id="{k}" '
        f"data-label-name={quoteattr(name)}></circle>"
        for k, (name, (x, y)) in enumerate(zip(names, spots, strict=True), start=1)
    )
    return lines + circles


def declared(root: ElementTree.Element, specification: list[dict[str, Any]], name: str, size: int, mode: str) -> None:
    """Append the head of an xml file: the task and its labels.

    Args:
        root: the document.
        specification: what `label_list` gives.
        name: of the task.
        size: number of images.
        mode: "annotation" or "interpolation".
    """
    task = child(child(root, "meta"), "task")
    for tag, value in (("name", name), ("size", size), ("mode", mode), ("overlap", 0), ("bugtracker", "")):
        child(task, tag, value)
    labels = child(task, "labels")
    for label in specification:
        element = child(labels, "label")
        child(element, "name", label["name"])
        child(element, "type", label["type"])
        attributes = child(element, "attributes")
        for one in label["attributes"]:
            attribute = child(attributes, "attribute")
            for tag in ("name", "mutable", "input_type", "default_value"):
                child(attribute, tag, one[tag])
            child(attribute, "values", "\n".join(one["values"]))
        if "svg" in label:
            child(element, "svg", label["svg"])
            for one in label["sublabels"]:
                part = child(labels, "label")
                for tag, value in (("name", one["name"]), ("type", "points"), ("parent", label["name"])):
                    child(part, tag, value)
                child(part, "attributes")
