"""The charts and tables of the page of `detect check`: classes, boxes and images of each split.

Axes: I images, N objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from detect.data.annotations import Annotations
from detect.data.boxes import objects, owners
from detect.data_check.kinds import Checked
from detect.data_check.marked import grid
from detect.report.charts import line_spec
from detect.report.html import Page

DRAWN = 1500  # boxes of a split in a scatter plot
BARS, SIZES = 40, 5  # classes in a bar chart, and sizes in a table
BINS = 24  # of a distribution, and cells of a map in width and height
CELL, SLICE = 10, 128  # pixels of a cell of a map, and of a slice of a volume
SIGNALS, RECORDS = 6, 4  # classes of signals that are drawn, and records of each


def numbers(made: Page, checked: Checked) -> None:
    """Add how many images and objects each split has."""
    made.heading("What there is")
    keys = ("images", "without_objects", "objects", "crowd_regions", "objects_per_image")
    rows = [(split, *(facts[key] for key in keys)) for split, facts in checked.splits.items()]
    made.table(("split", *(key.replace("_", " ") for key in keys)), rows)


def classes(made: Page, checked: Checked) -> None:
    """Add how many objects, and images with them, each class has in each split."""
    made.heading("Classes")
    counts = {split: facts["per_class"] for split, facts in checked.splits.items()}
    within = [images_of_classes(one) for one in checked.annotations.values()]
    names = list(dict.fromkeys(name for one in counts.values() for name in one))
    totals = {split: max(1, sum(one.values())) for split, one in counts.items()}
    header = ["class"]
    for split in counts:
        header += [split, f"{split} share"]
    rows = []
    for name in sorted(names, key=lambda name: -next(iter(counts.values())).get(name, 0)):
        row: list[object] = [name]
        for split, one in counts.items():
            known = one.get(name)
            row += [known, None if known is None else known / totals[split]]
        rows.append([*row, sum(one.get(name, 0) for one in within)])
    made.table([*header, "images with it"], rows)
    for split, one in counts.items():
        largest = dict(sorted(one.items(), key=lambda pair: -pair[1])[:BARS])
        made.bars(largest, f"objects of each class, {split}" + f" (the {BARS} largest)" * (len(one) > BARS))


def images_of_classes(annotations: Annotations) -> dict[str, int]:
    """Return in how many images each class has an object."""
    keep = objects(annotations)
    pairs = np.unique(np.stack([owners(annotations)[keep], annotations.labels[keep]]), axis=1)
    counts = np.bincount(pairs[1], minlength=len(annotations.names))
    return dict(zip(annotations.names, counts.tolist(), strict=True))


def boxes(made: Page, checked: Checked) -> None:
    """Add the sizes, shapes and places of boxes, and how many an image has."""
    splits = {s: facts for s, facts in checked.splits.items() if not facts["whole_images"] and len(facts["sides"])}
    if not splits:
        return
    made.heading("Boxes")
    sides = {split: np.sqrt(facts["sides"].prod(axis=1)) for split, facts in splits.items()}
    size = checked.imgsz
    distributions(made, sides, f"box sides (square roots of areas) in pixels at --imgsz {size}", "pixels", log=True)
    aspects = {split: facts["aspects"].clip(0.05, 20) for split, facts in splits.items()}
    distributions(made, aspects, "width / height of boxes", "width / height", log=True)
    counts = {split: facts["per_image"] for split, facts in splits.items()}
    distributions(made, counts, "objects an image", "objects")
    shares = {split: facts["shares"] for split, facts in splits.items()}
    distributions(made, shares, "box sides as shares of their images'", "share")
    drawn = {"boxes": sample(np.concatenate([facts["sides"] for facts in splits.values()])).tolist()}
    anchors = {"anchors": checked.anchors["anchors"]} if checked.anchors else {}
    caption = f"width and height of boxes in pixels at --imgsz {size}" + ", and the anchors" * bool(anchors)
    made.dots(drawn | anchors, caption, "width", "height")
    if anchors:
        found = checked.anchors
        made.text(
            f"{len(found['anchors'])} anchors reach a mean IoU of {found['mean_iou']:.3f} and a best possible recall "
            f"of {found['recall']:.3f}."
        )
    made.text(
        "Where the boxes are in their images, each stretched to a square: brighter cells hold more of the centres."
    )
    made.gallery(
        [(heat(facts["centers"]), f"centres of boxes in {split}") for split, facts in splits.items()], side=200
    )


def keypoints(made: Page, checked: Checked) -> None:
    """Add how often each keypoint is labelled, and labelled as visible, of the objects that have any."""
    shares: dict[str, np.ndarray] = {}
    names: list[str] = []
    for split, one in checked.annotations.items():
        seen = np.zeros((0, 0)) if one.keypoints is None else one.keypoints[..., 2]
        seen = seen[(seen > 0).any(axis=1)]
        if len(seen):
            names = one.keypoint_names or [str(k) for k in range(seen.shape[1])]
            shares |= {f"{split} labelled": (seen > 0).mean(axis=0), f"{split} visible": (seen == 2).mean(axis=0)}
    if shares:
        made.heading("Keypoints")
        made.text("Of the objects that have keypoints, the share in which each is labelled, and labelled as visible.")
        made.table(("keypoint", *shares), list(zip(names, *(one.tolist() for one in shares.values()), strict=False)))


def images(made: Page, checked: Checked) -> None:
    """Add the sizes and brightness of images; of signals, some of each class."""
    for split, one in checked.annotations.items():
        if checked.splits[split]["samples"] == "signals":
            _signals(made, one, split)
        elif checked.splits[split]["samples"] == "volumes":
            _volumes(made, one, split)
    splits = {split: facts for split, facts in checked.splits.items() if facts["samples"] == "images"}
    if not splits:
        return
    made.heading("Images")
    room = np.concatenate([facts["room"] for facts in splits.values()])
    made.dots(
        {"images": sample(room[room[:, 0] > 0])[:, ::-1].tolist()}, "sizes of images in pixels", "width", "height"
    )
    bright = {split: facts["brightness"] for split, facts in splits.items()}
    distributions(made, bright, "mean grey level of images: 0 is black, 255 is white", "grey level")
    sizes = [(split, one) for split, facts in splits.items() for one in list(facts["image_sizes"].items())[:SIZES]]
    rows = [(split, size, count) for split, (size, count) in sizes]
    made.table(("split", f"width x height, the {SIZES} most frequent", "images"), rows, filter=False)


def distributions(made: Page, values: Mapping[str, np.ndarray], caption: str, x: str, log: bool = False) -> None:
    """Add one chart with a line for each split: percent of the values (N,) in intervals that all splits share."""
    every = np.concatenate([np.asarray(one, float) for one in values.values()])
    every = every[every > 0] if log else every
    if not len(every):
        return
    low, high = float(every.min()), float(every.max())
    if high <= low:
        low, high = (low / 1.1, high * 1.1) if log else (low - 1, high + 1)
    edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    if not log and (every == every.round()).all():  # numbers of things: no interval has more of them than another
        edges = np.arange(low, high + 1 + (step := -(-(high - low + 1) // BINS)), step) - 0.5
    middles = np.sqrt(edges[1:] * edges[:-1]) if log else (edges[1:] + edges[:-1]) / 2
    lines = {}
    for split, one in values.items():
        counts = np.histogram(np.clip(one, low, high), bins=edges)[0]
        lines[split] = list(zip(middles.tolist(), (100 * counts / max(1, len(one))).tolist(), strict=True))
    made.chart(line_spec(lines, x, "%", log_x=log), caption, list(lines))


def sample(values: np.ndarray, most: int = DRAWN) -> np.ndarray:
    """Return at most `most` of the rows, evenly chosen, as they are in the order of the dataset."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(int))].round(1)


def heat(centers: np.ndarray) -> np.ndarray:
    """Return a map (h, w, 3) of points (N, 2) x, y in 0..1."""
    counts = np.histogram2d(centers[:, 1], centers[:, 0], bins=BINS, range=((0, 1), (0, 1)))[0]
    grey = (255 * counts / max(1.0, counts.max())).astype(np.uint8)
    large = cv2.resize(grey, None, fx=CELL, fy=CELL, interpolation=cv2.INTER_NEAREST)
    return cv2.applyColorMap(large, cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()


def _signals(made: Page, annotations: Any, split: str) -> None:
    """Add some signals of each class, and the mean of each class; each channel is a chart."""
    made.heading(f"Signals of {split}")
    for channel in range(min(3, annotations.values.shape[1])):
        lines, means = {}, {}
        for label, name in list(enumerate(annotations.names))[:SIGNALS]:
            rows = np.flatnonzero(annotations.labels == label)
            if len(rows):
                means[name] = _points(annotations.values[rows[:1000], channel].mean(axis=0))
            for n, row in enumerate(rows[:RECORDS].tolist(), start=1):
                lines[f"{name} {n}"] = _points(annotations.values[row, channel])
        made.curves(means, f"mean of each class, channel {channel}", "sample", "value")
        made.curves(lines, f"{RECORDS} signals of each class, channel {channel}", "sample", "value")


def _volumes(made: Page, annotations: Any, split: str) -> None:
    """Add the middle slices of some volumes of each class: their first channel, darkest to brightest value."""
    made.heading(f"Volumes of {split}")
    sheets = []
    for label, name in list(enumerate(annotations.names))[:BARS]:
        rows = np.flatnonzero(annotations.labels == label)
        slices = annotations.values[rows[:RECORDS], 0, annotations.values.shape[2] // 2].astype(np.float32)
        grey = [255 * (one - one.min()) / max(float(np.ptp(one)), 1e-9) for one in slices]
        if grey:
            shown = [np.repeat(one[..., None], 3, axis=2).astype(np.uint8) for one in grey]
            sheets.append((grid(shown, SLICE, RECORDS), f"{name}: middle slices of {len(shown)} of {len(rows):,}"))
    made.gallery(sheets)


def _points(values: np.ndarray) -> list[tuple[float, float]]:
    places = np.unique(np.linspace(0, len(values) - 1, min(400, len(values))).astype(int))
    return list(zip(places.astype(float).tolist(), values[places].astype(float).tolist(), strict=True))
