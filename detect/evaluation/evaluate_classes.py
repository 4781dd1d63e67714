"""`detect evaluate` for classifiers: one, or several whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations
from detect.data.datasets.crops import CropDataset, Crops
from detect.data.datasets.signals import SignalDataset, Signals, require_fit
from detect.data.loader import StillLoader
from detect.errors import UserError
from detect.evaluation.class_matching import labels_of
from detect.evaluation.classification import ClassEvaluator, class_lines
from detect.evaluation.evaluate import opened, tell
from detect.evaluation.multi_crop import canvas_side, class_scores
from detect.models.classifier import best
from detect.tasks import TASKS
from detect.types import Classification, Postprocess
from detect.utils.device import pick_workers
from detect.utils.progress import track


def evaluate_classes(config: EvaluateConfig, members: Sequence[Detector]) -> dict[str, Any]:
    """Measure the mean of the members' probabilities on a split; see `ClassEvaluator.result`."""
    store, evaluator = measured_classes(config, members)
    of = "crops" if store.dims == 2 else "records"
    what = f"{store.path} ({len(evaluator.crops)} {of}, {members[0].computed(config.imgsz)})"
    return tell(config, what, evaluator, class_lines)


def measured_classes(config: EvaluateConfig, members: Sequence[Detector]) -> tuple[Annotations, ClassEvaluator]:
    """The store of the split, and its evaluator with what the members say of every crop."""
    names = members[0].names
    for path, member in zip(config.weights.split(","), members, strict=True):
        if member.names != names:
            raise UserError(f"{path}: its classes are not those of the first weights: they cannot be averaged")
    store = opened(config, TASKS["classify"])
    for member in members:
        require_fit(store, member.dims, member.channels)
    place = labels_of(members[0].metadata, store)
    if store.dims != 2 and (config.crops > 1 or config.imgsz):
        raise UserError(f"--crops and --imgsz are for pictures, and {store.path} holds none: leave them out")
    crops = Crops.of(store)
    besides = place < 0
    every = [*store.names, *(name for name, apart in zip(names, besides.tolist(), strict=True) if apart)]
    place[besides] = torch.arange(len(store.names), len(every))
    evaluator = ClassEvaluator(crops, every)
    ids, scores = _averaged(config, members, crops)
    evaluator.update(
        ids, [Classification(one.scores, place[one.labels]) for one in best(scores, Postprocess(score=0.0))]
    )
    return store, evaluator


def _averaged(config: EvaluateConfig, members: Sequence[Detector], crops: Crops) -> tuple[list[int], torch.Tensor]:
    """The ids of the crops, and the mean over members and views of their probabilities (N, C)."""
    workers, ids, total = pick_workers(config.workers), [], torch.zeros(())
    for member in members:
        side = member.side(config.imgsz)
        data: Any = None
        if isinstance(crops.store, Signals):
            data, side = SignalDataset(crops.store), crops.store.values.shape[-1]
        else:
            data = CropDataset(crops, canvas_side(side, config.crops), pixels=member.metadata.pixels, cache_gb=0.0)
        loader = StillLoader(data, config.batch, workers)
        scored = class_scores(member.model, loader, side, config.crops, member.device, member.dtype)
        parts = list(track(scored, len(loader), "evaluate"))
        ids = [one for some, _ in parts for one in some]  # of one canvas: every member's loader gives one order
        total = total + torch.cat([scores for _, scores in parts])
    return ids, total / len(members)
