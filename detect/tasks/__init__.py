"""What the training loop and the commands ask of a task: one entry of TASKS each. The loop itself knows none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from detect.commands.evaluate import EvaluateConfig
from detect.config.train import TrainConfig
from detect.data.annotations import Annotations
from detect.data.datasets.crops import CropDataset, Crops, require_classes
from detect.data.datasets.detection import CocoDataset
from detect.data.datasets.identities import IdentityDataset, require_identities
from detect.data.datasets.landmarks import Instances, LandmarkDataset, require_points
from detect.data.datasets.signals import SignalDataset, Signals
from detect.data.datasets.windows import WindowDataset
from detect.data.loader import EvalLoader, StillLoader
from detect.data.sampling import Repeated, repeat_factors
from detect.data.validate import require_large, require_objects
from detect.evaluation.class_matching import as_coco, by_name, points_by_name
from detect.evaluation.classification import ClassEvaluator, class_lines
from detect.evaluation.coco import CocoEvaluator, coco_lines
from detect.evaluation.landmarks import LandmarkEvaluator, landmark_lines, one_class
from detect.evaluation.localization import LocateEvaluator, locate_lines
from detect.evaluation.oks import KeypointEvaluator, keypoint_lines, require_keypoints
from detect.evaluation.verification import PairEvaluator, pair_lines
from detect.models.base import ModelMetadata
from detect.types import Batch, Classification, Detections, Embedding, Postprocess, Preprocess


class Stills(Protocol):
    """Every sample once, in batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class Evaluator(Protocol):
    """Judges answers against the truth it was made with; each image or crop comes once, over all ranks.

    `records` are plain values that another rank's evaluator can `extend`. Of the result the numbers go into the
    metrics of an epoch.
    """

    def update(self, image_ids: Sequence[int], found: Sequence[Any]) -> None: ...

    def records(self) -> Any: ...

    def extend(self, records: Any) -> None: ...

    def result(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Task:
    """What is particular to a task.

    samples    (store, config, pixels, gigabytes of cache) -> the training samples, asked for by a SampleKey stills
    (store, size, batch, pixels, workers, rank, world, gigabytes of cache, pin) -> what is evaluated evaluator  the
    judge of a store check      raises UserError where the training set and the held-out set are nothing to learn from
    keep       how an evaluation decodes metric     the number that chooses the best weights, the greatest, or after a
    minus the least shown      the numbers of a progress line report     the lines that `detect evaluate` prints of a
    result match      (the metadata of weights, store) -> for each of their classes its label in the store; raises
    UserError points     (the metadata of weights, store) -> for each keypoint of the store its place in the weights;
    raises UserError whole      whether labels of whole pictures will do for data (a folder of classes, or a csv), and
    what of them is
               held out where they have no splits: "images" of each class, or "classes"; none: they will not do
    answer     the type of what the model says of an image
    asked      how `detect evaluate` decodes, where its flags have a say
    flat       whether its evaluator counts objects of no width or height, and those outside their image, as pycocotools
    """

    samples: Callable[[Annotations, TrainConfig, Preprocess, float], Any]
    eval_loader: Callable[..., Stills]
    evaluator: Callable[[Annotations], Evaluator]
    check: Callable[[Annotations, Annotations], None]
    keep: Postprocess
    metric: str
    shown: tuple[str, ...]
    report: Callable[[dict[str, Any]], Iterator[str]]
    match: Callable[[ModelMetadata, Annotations], Tensor] = by_name
    points: Callable[[ModelMetadata, Annotations], Tensor] | None = None
    whole: str = ""
    answer: type = Detections
    asked: Callable[[EvaluateConfig], Postprocess] | None = None
    flat: bool = False


def _scenes(
    store: Annotations, config: TrainConfig, pixels: Preprocess, cache_gb: float
) -> CocoDataset | WindowDataset:
    if config.model.kind == "sliding_window":
        return _windows(store, config, pixels, cache_gb)
    require_large(store, config.imgsz, pixels.stretch)
    if config.model.kind != "yolo_points":
        # Nothing reads the points, and nobody need say which of them a mirror swaps.
        store = replace(store, keypoints=None, keypoint_names=[])
    repeated = None
    if config.balance == "sampling":
        repeated = Repeated(repeat_factors(store, config.repeat), config.seed)
    return CocoDataset(
        store,
        config.imgsz,
        config.augment if config.augment.on else None,
        config.seed,
        config.epochs,
        pixels,
        cache_gb,
        repeated,
    )


def _windows(store: Annotations, config: TrainConfig, pixels: Preprocess, cache_gb: float) -> WindowDataset:
    augment, balanced = config.augment if config.augment.on else None, config.balance == "sampling"
    size, window, piece = config.imgsz, config.model.window, config.model.piece
    return WindowDataset(store, size, window, piece, augment, config.seed, pixels, cache_gb, balanced)


def _one_object(store: Annotations, config: TrainConfig, pixels: Preprocess, cache_gb: float) -> Any:
    alone = replace(config.augment, mosaic=0.0, mixup=0.0)  # they would put several pictures together
    return _scenes(store, replace(config, augment=alone), pixels, cache_gb)


def _landmarks(store: Annotations, config: TrainConfig, pixels: Preprocess, cache_gb: float) -> LandmarkDataset:
    augment = config.augment if config.augment.on else None
    return LandmarkDataset(Instances.of(store), config.imgsz, augment, config.seed, pixels, cache_gb)


def _still_landmarks(store: Annotations, size: int, pixels: Preprocess, cache_gb: float) -> LandmarkDataset:
    return LandmarkDataset(Instances.of(store), size, pixels=pixels, cache_gb=cache_gb)


def _crops(store: Annotations, config: TrainConfig, pixels: Preprocess, cache_gb: float) -> CropDataset | SignalDataset:
    balanced = config.balance == "sampling"
    if isinstance(store, Signals):
        return SignalDataset(store, config.augment if config.augment.on else None, config.seed, balanced)
    return CropDataset(
        Crops.of(store),
        config.imgsz,
        config.augment if config.augment.on else None,
        config.seed,
        pixels,
        cache_gb,
        balanced,
    )


def _people(store: Annotations, config: TrainConfig, pixels: Preprocess, cache_gb: float) -> IdentityDataset:
    augment = config.augment if config.augment.on else None
    rest = config.imgsz, augment, config.seed, pixels, cache_gb
    return IdentityDataset(Crops.of(store), *rest, batch=config.batch, each=config.each)


def _still_crops(store: Annotations, size: int, pixels: Preprocess, cache_gb: float) -> CropDataset | SignalDataset:
    if isinstance(store, Signals):
        return SignalDataset(store)
    return CropDataset(Crops.of(store), size, pixels=pixels, cache_gb=cache_gb)


def _stills(
    samples: Callable[[Annotations, int, Preprocess, float], Any],
    store: Annotations,
    size: int,
    batch: int,
    pixels: Preprocess,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    cache_gb: float = 0.0,
    pin: bool = False,
) -> StillLoader:
    return StillLoader(samples(store, size, pixels, cache_gb), batch, workers, rank, world, pin)


TASKS = {
    "detect": Task(
        _scenes,
        EvalLoader,
        CocoEvaluator,
        require_objects,
        Postprocess(score=0.001, iou=0.7, limit=100),  # the COCO protocol considers 100 detections an image
        "AP",
        ("AP", "AP50"),
        coco_lines,
        as_coco,
        asked=lambda config: Postprocess(config.conf, config.iou, config.max_det),
        flat=True,
    ),
    "keypoints": Task(
        _scenes,
        EvalLoader,
        KeypointEvaluator,
        require_keypoints,
        Postprocess(score=0.001, iou=0.7, limit=100),
        "OKS_AP",
        ("AP", "OKS_AP", "OKS_AP50"),
        keypoint_lines,
        as_coco,
        points=points_by_name,
        asked=lambda config: Postprocess(config.conf, config.iou, config.max_det),
        flat=True,
    ),
    "locate": Task(
        _one_object,
        partial(EvalLoader, square=True),
        LocateEvaluator,
        require_objects,
        Postprocess(score=0.0),
        "localized",
        ("localized", "presence", "class_accuracy", "iou"),
        locate_lines,
    ),
    "landmarks": Task(
        _landmarks,
        partial(_stills, _still_landmarks),
        LandmarkEvaluator,
        require_points,
        Postprocess(score=0.0),
        "-nme",
        ("nme", "failures", "auc"),
        landmark_lines,
        one_class,
        points=points_by_name,
    ),
    "classify": Task(
        _crops,
        partial(_stills, _still_crops),
        lambda store: ClassEvaluator(Crops.of(store)),
        require_classes,
        Postprocess(score=0.0),
        "top1",
        ("top1", "top5"),
        class_lines,
        whole="images",
        answer=Classification,
    ),
    "embed": Task(
        _people,
        partial(_stills, _still_crops),
        lambda store: PairEvaluator(Crops.of(store)),
        require_identities,
        Postprocess(score=0.0),
        "auc",
        ("auc", "eer", "accuracy"),
        pair_lines,
        whole="classes",
        answer=Embedding,
    ),
}
