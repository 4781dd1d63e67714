"""Several weights as one model: `open_detector` gives what every command that predicts with `--weights` can use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from detect.api import Detector
from detect.config.fusion import FusionConfig
from detect.errors import UserError
from detect.inference.predictor import AHEAD
from detect.models.base import ModelMetadata
from detect.tasks import get_task
from detect.types import Frame, Postprocess
from detect.utils.names import counted

DEFAULT = FusionConfig()


def open_detector(
    weights: Sequence[str | Path], device: str = "auto", precision: str = "auto", fusion: FusionConfig = DEFAULT
) -> Detector:
    """One model, or several that predict as one; with one, options of fusion are refused.

    Args:
        weights: files or names, as `Detector.load` takes them; weights and exported files may be mixed.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, float32, bfloat16 or float16.
        fusion: how the results of several become one.

    Raises:
        UserError: a file cannot be used, or not with the others.
    """
    return joined([Detector.load(path, device, precision) for path in weights], [str(path) for path in weights], fusion)


def joined(members: Sequence[Detector], weights: Sequence[str], fusion: FusionConfig = DEFAULT) -> Detector:
    """One model made of the members: the only one, or an `Ensemble`. Arguments and errors as of `open_detector`."""
    if len(members) > 1:
        return Ensemble(members, weights, fusion)
    if fusion != DEFAULT:
        raise UserError("--fusion options are read with several --weights alone: leave them out, or give more weights")
    return members[0]


class Ensemble(Detector):
    """Several models of one task, each with its own image size and preprocessing, whose results are fused.

    Classes are matched by name: `metadata` has those of the first model, then those that only others know.

    Args:
        members: the models.
        weights: their files, for messages.
        fusion: how their results become one.

    Raises:
        UserError: they are of several tasks, or of one whose results cannot be fused, or they do not fit one another.
    """

    def __init__(self, members: Sequence[Detector], weights: Sequence[str], fusion: FusionConfig = DEFAULT):
        first = members[0]
        self.members, self.model, self.device, self.dtype = list(members), first.model, first.device, first.dtype
        tasks = {member.model.task for member in members}
        if len(tasks) > 1:
            raise UserError(f"--weights are of several tasks ({', '.join(sorted(tasks))}): use them one by one")
        task = get_task(first.model.task)
        if task.fuse is None:
            raise UserError(
                f"several --weights become one model for detectors and embedders, and {weights[0]} is "
                f"{task.with_article}: give one"
            )
        if fusion.weights and len(fusion.weights) != len(members):
            raise UserError(
                f"--fusion.weights has {counted(len(fusion.weights), 'number')} for {len(members)} --weights: "
                "give one for each, in their order"
            )
        self.fusion = task.fuse(members, weights, fusion)

    @property
    def metadata(self) -> ModelMetadata:
        """That of the first model, with the classes of all, and without thresholds, which are of one."""
        metadata: ModelMetadata = self.fusion.metadata
        return metadata

    def computed(self, imgsz: int = 0) -> str:
        """One line that tells how many models there are, and what `Detector.computed` tells of each."""
        each = dict.fromkeys(member.computed(imgsz) for member in self.members)
        return f"{len(self.members)} models, {self.fusion.method}; {'; '.join(each)}"

    def side(self, imgsz: int) -> int:
        """`imgsz`, or the training size of the first model if that is 0. Raises UserError as `Detector.side`."""
        sides = [member.side(imgsz) for member in self.members]
        return sides[0]

    def predictor(self, keep: Postprocess, size: int = 0, batch: int = 1, tta: bool = False, tile: bool = False) -> Any:
        """As `Detector.predictor`: augmentation and tiles are those of each model, before the fusion."""
        keeps = self.fusion.member_postprocess(keep)
        predictors = [
            member.predictor(own, size, batch, tta, tile) for member, own in zip(self.members, keeps, strict=True)
        ]
        return partial(_predict, predictors, partial(self.fusion, keep), keeps, keep, batch)


def members_of(detector: Detector) -> list[Detector]:
    """The models that a model consists of: those of an `Ensemble`, or itself."""
    return detector.members if isinstance(detector, Ensemble) else [detector]


def _predict(
    predictors: Sequence[Any],
    fuse: Callable[[Sequence[Any]], Any],
    keeps: Sequence[Postprocess],
    keep: Postprocess,
    batch: int,
    frames: Iterable[Frame],
) -> Generator[tuple[Frame, Any], None, None]:
    """Each frame with the fused result of the predictors, of which one works at a time, on some frames."""
    some = 1 if getattr(frames, "is_live", False) else max(4, (torch.get_num_threads() + 1) * batch)
    for waiting in _chunks(frames, some):
        found = []
        for predictor in predictors:
            with closing(predictor(waiting)) as pairs:
                found.append([result for _, result in pairs])
        yield from ((frame, fuse(results)) for frame, *results in zip(waiting, *found, strict=True))
        keep.limit_hits.crowded = max(own.limit_hits.crowded for own in keeps)


def _chunks(frames: Iterable[Frame], count: int) -> Iterator[list[Frame]]:
    """Consecutive frames, at most `count` together, and about AHEAD bytes."""
    waiting: list[Frame] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) >= count or sum(one.image.nbytes for one in waiting) >= AHEAD:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
