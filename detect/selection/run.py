"""The work of `detect next`: from its options to the files that it writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from detect.api import Detector
from detect.commands.next_images import NextImagesConfig
from detect.data.annotations import Annotations
from detect.data.sources.formats import load_data
from detect.data.validate import verify
from detect.errors import UserError
from detect.export.runtime import Exported
from detect.inference.source import Source, open_source
from detect.registry import REGISTRIES
from detect.selection import output
from detect.selection.base import Criterion
from detect.selection.choose import Choice, LeftOut, choose, duplicates, parse_criteria
from detect.selection.pool import Labelled, Pool
from detect.selection.scan import Look, Scanned, class_counts, scan_labelled, scan_source
from detect.tasks import get_task
from detect.utils.names import counted, say


class Selection(NamedTuple):
    """What was chosen among the images of `found`, and what was left out; `labelled` counts the labelled images."""

    found: Scanned
    choices: list[Choice]
    left_out: list[LeftOut]
    labelled: int


def select(config: NextImagesConfig) -> Path:
    """Choose images and write the files; returns the page. Raises UserError: see `next_images`."""
    weights = parse_criteria(config.criteria)
    output.require_free(Path(config.out))
    kinds: dict[str, Callable[[Pool], Criterion]] = {name: REGISTRIES["criterion"][name] for name in weights}
    detector = Detector.load(config.weights, config.device, config.precision)
    look = _look(config, detector, kinds)
    known = _labelled(config, detector)
    source = open_source(config.source, 1, config.recursive, config.skip_bad, config.max_pixels)
    before = None if known is None else scan_labelled(look, known)
    found = scan_source(look, source)
    _tell(source, found)
    labelled = None
    if known is not None and before is not None:
        labelled = Labelled(before.names, before.features, class_counts(known, detector.names))
    pool = Pool(found.names, found.results, detector.names, found.views, found.features, labelled, config.per_image)
    twins, copies = ({}, {}) if config.keep_duplicates else duplicates(found.seen, before.seen if before else [])
    criteria = {name: kind(pool) for name, kind in kinds.items()}
    choices, left_out = choose(found.names, criteria, weights, config.budget, twins, copies)
    selection = Selection(found, choices, left_out, len(known) if known is not None else 0)
    page = output.write(config, weights, detector, selection)
    _say(config, selection)
    return page


def _look(config: NextImagesConfig, detector: Detector, kinds: dict[str, Callable[[Pool], Criterion]]) -> Look:
    """How images are looked at. Raises UserError for a model that the command does not take."""
    task = get_task(detector.model.task)
    if not (task.detects_objects or task.name == "classify") or detector.dims != 2:
        what = task.with_article if detector.dims == 2 else "a model of signals or volumes"
        raise UserError(
            f"{config.weights} is {what}: detect next takes classifiers of images, and detectors (those of masks, "
            "oriented boxes and keypoints, too)"
        )
    asked = {name: getattr(kind, "features", False) for name, kind in kinds.items()}
    if any(asked.values()) and isinstance(detector.model, Exported):
        name = next(name for name, wants in asked.items() if wants)
        raise UserError(f"{config.weights} is exported, which hides the features that {name} reads: give its weights")
    keep = detector.metadata.postprocess(config.conf, config.iou)
    views = any(getattr(kind, "views", False) for kind in kinds.values())
    return Look(detector, keep, detector.side(config.imgsz), config.batch, any(asked.values()), views)


def _labelled(config: NextImagesConfig, detector: Detector) -> Annotations | None:
    """The images that are labelled already; None where --data is not given."""
    if not config.data:
        return None
    labels = get_task(detector.model.task).image_level_labels
    annotations = load_data(config.data, config.split, config.skip_bad, labels, config.allow_outside)
    if annotations.dims != 2:
        raise UserError(f"{config.data} holds no images, and detect next chooses among images: leave --data out")
    annotations = verify(annotations, config.skip_bad, decode=False)
    for line in annotations.left_out:
        say(f"left out: {line}", sys.stderr)
    return annotations


def _tell(source: Source, found: Scanned) -> None:
    """Print which files were left out. Raises UserError where that is everything."""
    if source.left_out and not found.names:
        raise UserError(f"nothing could be read; the first: {source.left_out[0]}")
    for line in source.left_out:
        say(f"left out: {line}", sys.stderr)
    if nothing := sum(not len(result) for result in found.results):
        where = f"{nothing:,} of {counted(len(found.names), 'image')}"
        say(f"nothing is predicted in {where}, which diversity alone tells apart: try a lower --conf", sys.stderr)


def _say(config: NextImagesConfig, selection: Selection) -> None:
    """Print the best images and where the rest is."""
    found, choices, left_out, labelled = selection
    for rank, one in enumerate(choices[:3], 1):
        say(f"{rank}. {found.names[one.image]} ({one.score:.2f}): {'; '.join(p.text for p in one.parts.values())}")
    if copies := sum(one.labelled for one in left_out):
        say(f"{counted(copies, 'image')} left out: almost the same as labelled ones")
    if twins := len(left_out) - copies:
        say(f"{counted(twins, 'image')} left out: almost the same as chosen ones")
    if len(choices) < config.budget:
        say(f"only {counted(len(choices), 'image')} could be chosen of a budget of {config.budget}", sys.stderr)
    beside = f", beside {labelled:,} labelled ones" if labelled else ""
    say(f"{len(choices)} of {counted(len(found.names), 'image')}{beside}; see {config.out}/next.html")
