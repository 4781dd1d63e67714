"""The training and the validation set of a run, loaded and checked."""

from __future__ import annotations

import sys
from pathlib import Path

from detect.config.train import TrainConfig
from detect.data.annotations import Annotations
from detect.data.categories import with_classes_of
from detect.data.proposals import with_proposals
from detect.data.sources.formats import load_data, splits
from detect.data.sources.unlabelled import load_unlabelled, without_copies
from detect.data.validate import tell_notes, usable, verify
from detect.errors import UserError
from detect.tasks import get_task
from detect.training.dist import Ranks
from detect.training.image_check import is_beside
from detect.utils.atomic_io import replace_text
from detect.utils.names import say, shown


def load_annotations(config: TrainConfig, ranks: Ranks) -> tuple[Annotations, Annotations]:
    """Load and check the training set and the validation set: val, else test, else the training set itself."""
    task = get_task(config.task)
    labels = task.image_level_labels
    found = splits(config.data, labels, config.allow_outside)
    if "train" not in found:
        raise UserError(f"{config.data} has no split 'train'; it has: {', '.join(found) or 'none'}")
    other = next((s for s in ("val", "test") if s in found), "train")
    if other == "train" and ranks.main:
        say("no val split: the training images themselves choose the best weights", file=sys.stderr)
    checked = config.resume and (Path(config.out) / "last.ckpt").exists()  # when this run was started
    sets: list[Annotations] = []
    for split in ("train", other):
        annotations = load_data(config.data, split, config.skip_bad, labels, config.allow_outside)
        annotations = verify(
            annotations, skip_bad=config.skip_bad, decode=not (checked or is_beside(config, annotations))
        )
        annotations = usable(annotations, config.skip_bad, learned=not sets or not task.counts_degenerate_boxes)
        sets.append(task.outlines(annotations, config.skip_bad))
    if ranks.main:
        tell_notes(*sets)
    if config.skip_bad and ranks.main:
        list_left_out(Path(config.out) / "left_out.txt", sets)
    sets[1] = with_classes_of(sets[1], sets[0])
    task.check_data(*sets)
    if config.model.needs_proposals:
        sets = _find_proposals(config, sets, ranks)
    return sets[0], sets[1]


def load_images_without_labels(config: TrainConfig, ranks: Ranks) -> Annotations | None:
    """Load and check the images of `--unlabelled`, without those that are in a split; None without that option."""
    if not config.unlabelled:
        return None
    checked = config.resume and (Path(config.out) / "last.ckpt").exists()
    found = load_unlabelled(config.unlabelled, config.skip_bad, config.allow_outside)
    labels = get_task(config.task).image_level_labels
    names = splits(config.data, labels, config.allow_outside)
    known = {name: load_data(config.data, name, config.skip_bad, labels, config.allow_outside) for name in names}
    kept, copies = without_copies(found, known)
    kept = verify(kept, config.skip_bad, decode=not checked)
    if ranks.main:
        tell_notes(kept)
        counts = " and ".join(f"{count} in {split}" for split, count in copies.items())
        if copies:
            say(f"of the {len(found)} images in {config.unlabelled}, {counts} too: they are left out", sys.stderr)
        if kept.left_out:
            list_left_out(Path(config.out) / "left_out_unlabelled.txt", [kept], "images without labels")
    return kept


def _find_proposals(config: TrainConfig, sets: list[Annotations], ranks: Ranks) -> list[Annotations]:
    """Add region proposals to each set: one process searches for them, all read what it found."""
    folder = Path(config.proposals or Path(config.out) / "proposals")
    if not ranks.main:
        ranks.wait()
    found = [with_proposals(annotations, folder) for annotations in sets]
    if ranks.main:
        ranks.wait()
    return found


def list_left_out(path: Path, sets: list[Annotations], what: str = "bad records") -> None:
    """Write the list of records that were left out; `what` they are, for the message."""
    lines = [line for annotations in sets for line in annotations.left_out]
    if lines:
        replace_text(path, "".join(f"{shown(line)}\n" for line in lines))
        say(f"{len(lines)} {what} were left out; they are listed in {path}", file=sys.stderr)
