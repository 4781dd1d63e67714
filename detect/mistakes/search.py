"""`detect mistakes`, from the dataset to the files it leaves."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detect.cli.applicability import refuse_set
from detect.commands.mistakes import MistakesConfig
from detect.data.annotations import Annotations
from detect.data.boxes import objects
from detect.data.sources.formats import load_data, splits
from detect.data_check.images import Seen, look_at_all
from detect.evaluation.coco import CocoEvaluator
from detect.labelling.labels import Labels
from detect.labelling.writer import write_dataset
from detect.mistakes import page
from detect.mistakes.conflicts import conflicts, merged
from detect.mistakes.corrections import corrected, for_review, free_folder
from detect.mistakes.evidence import overlaps, weigh
from detect.mistakes.folds import same_images
from detect.mistakes.held_out import HeldOut, open_labels, predictions
from detect.mistakes.kinds import KINDS, Mistake, record, said
from detect.mistakes.scores import mistakes
from detect.utils.atomic_io import replace_text
from detect.utils.names import counted, json_text, say

COLUMNS = (
    "rank",
    "score",
    "kind",
    "image",
    "image_id",
    "annotation_id",
    "class",
    "bbox",
    "action",
    "to_class",
    "to_bbox",
)
OF_FOLDS = ("folds", "model", "fine_tune", "epochs", "train_options", "seed")
OF_MODELS = ("imgsz", "batch", "device", "precision", "workers")
TOLD = 10  # mistakes that are printed


def search(config: MistakesConfig) -> list[dict[str, Any]]:
    """Find label errors, print the likeliest ones and write all into the folder of the command."""
    _refuse_unread(config)
    annotations, out = open_labels(config), Path(config.out)
    seen = look_at_all(annotations, "compare images")
    held_out = predictions(config, annotations, same_images(seen))
    evaluator = CocoEvaluator(annotations)
    evaluator.extend(held_out.records)
    evaluator.write(out / "predictions.json")
    listed = [one for one in ranked(annotations, held_out, seen) if one.score >= config.min_score]
    found = [record(one, rank, annotations) for rank, one in enumerate(listed, 1)]
    content = {"data": config.data, "split": config.split, "images": len(annotations)}
    content |= {"labels": int(objects(annotations).sum()), "counts": dict(Counter(one.kind for one in listed))}
    replace_text(out / "mistakes.json", json_text(content | {"mistakes": found}, indent=1) + "\n")
    replace_text(out / "mistakes.csv", _table(found))
    replace_text(out / "mistakes.html", page.html(config, listed, annotations, _about(config)))
    for line in (*_lines(listed, annotations, out), *_datasets(config, annotations, listed)):
        say(line)
    return found


def _refuse_unread(config: MistakesConfig) -> None:
    """Refuse options of trainings where none is needed, and of models where predictions are given."""
    if config.results:
        refuse_set(config, ["weights", *OF_FOLDS, *OF_MODELS], "has no effect on predictions that --results has")
    if config.weights:
        refuse_set(config, OF_FOLDS, "is for models that are trained here, and --weights are given")


def _datasets(config: MistakesConfig, annotations: Annotations, listed: Sequence[Mistake]) -> list[str]:
    """Write the labels to review, and those with suggestions applied if asked; returns lines that tell of them."""
    lines, out = list[str](), Path(config.out)
    if listed:
        folder = free_folder(out / "review")
        lines += write_dataset({config.split: for_review(annotations, listed)}, folder, config.format)
    if config.correct_above is not None:
        folder = free_folder(out / "corrected")
        labels, line = corrected(annotations, listed, config.correct_above)
        others = [one for one in splits(config.data, allow_outside=config.allow_outside) if one != config.split]
        sets = {one: Labels(load_data(config.data, one, config.skip_bad, "", config.allow_outside)) for one in others}
        lines += [line, *write_dataset({config.split: labels, **sets}, folder, config.format)]
    return lines


def ranked(annotations: Annotations, held_out: HeldOut, seen: Sequence[Seen]) -> list[Mistake]:
    """Return all mistakes, the likeliest first.

    Args:
        annotations: the labels.
        held_out: predictions for every image.
        seen: every image, for finding near duplicates.
    """
    found = overlaps(annotations, held_out.records)
    evidence = weigh(annotations, held_out.records, found)
    listed = mistakes(annotations, held_out.records, found, evidence, held_out.known)
    contradictions = list(conflicts(annotations, seen, held_out.records, found, evidence))
    return sorted(merged(listed, contradictions), key=lambda one: (-one.score, one.image, one.row, one.box))


def _about(config: MistakesConfig) -> str:
    if config.results:
        return f"Compared with the predictions in {config.results}."
    if config.weights:
        return f"Compared with the predictions of {config.weights}."
    return f"Compared with the predictions of {config.folds} models, none of which was trained on the images it judges."


def _table(found: Sequence[dict[str, Any]]) -> str:
    """The mistakes as csv; boxes are four numbers with blanks between them."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in found:
        to = one["suggestion"]
        values = {**one, "action": to["action"], "to_class": to.get("class"), "to_bbox": to.get("bbox")}
        cells = (values[name] for name in COLUMNS)
        table.writerow([" ".join(f"{v:g}" for v in cell) if isinstance(cell, list) else cell for cell in cells])
    return text.getvalue()


def _lines(listed: Sequence[Mistake], annotations: Annotations, out: Path) -> list[str]:
    """What is printed: how many of each kind, and the likeliest ones."""
    counts = Counter(one.kind for one in listed)
    lines = [f"{counted(int(objects(annotations).sum()), 'label')} in {counted(len(annotations), 'image')}"]
    lines += [f"  {page.TITLES[kind]:<31}{counts[kind]:>6}" for kind in KINDS]
    for rank, one in enumerate(listed[:TOLD], 1):
        lines.append(f"{rank:>4}. {one.score:.2f} {said(one, annotations)}: {annotations.file_name(one.image)}")
    return [*lines, f"see {out / 'mistakes.html'}; all are in {out / 'mistakes.json'} and {out / 'mistakes.csv'}"]
