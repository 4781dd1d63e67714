"""What a task is: one `Task` holds all that is particular to it, and every command asks that object.

Importing this file, or that of a built-in task, imports neither torch nor numpy, so that help can show the defaults.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from detect.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from detect.api import Detector
    from detect.commands.evaluate import EvaluateConfig
    from detect.config.fusion import FusionConfig
    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations
    from detect.evaluation.calibration import Judged
    from detect.models.base import ModelMetadata
    from detect.report.html import Page
    from detect.score_calibration import ScoreCalibration
    from detect.types import Batch, Postprocess, Preprocess


IMAGE_OPTIONS = (
    *("balance", "repeat", "proposals", "augment.mosaic", "augment.mosaic_off", "augment.mixup"),
    *("augment.visibility", "augment.stylized", "augment.crop", "teacher", "unlabelled"),
)  # of detect train, which the default `Task.training_data` reads


@dataclass(frozen=True)
class Late:
    """A function or class that is imported when it is called.

    Args:
        place: "module:attribute".
    """

    place: str

    @property
    def target(self) -> Any:
        """The function or class."""
        module, _, attribute = self.place.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.target(*args, **options)


class EvalBatches(Protocol):
    """Every sample of a split once, in batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class Evaluator(Protocol):
    """Compares predictions with the annotations it was made with; each sample comes once, over all ranks."""

    def update(self, image_ids: Sequence[int], predictions: Sequence[Any], /) -> None:
        """Take the predictions of some samples, in pixels of the source image."""

    def records(self) -> Any:
        """Everything taken so far, as plain values that another rank's evaluator can `extend` itself by."""

    def extend(self, records: Any) -> None:
        """Take what another rank's evaluator has collected."""

    def result(self) -> dict[str, Any]:
        """The metrics by name. The floats among them go into `metrics.jsonl`."""

    def write(self, path: Path) -> None:
        """Write the results file of `detect evaluate --detections`. A task without that option needs no such method."""


class Evaluation(NamedTuple):
    """A finished evaluation.

    `evaluator` has taken every prediction for `annotations`; `source` and `amount` say what was evaluated, such as
    "val.json" and "120 images".
    """

    annotations: Annotations
    evaluator: Any
    source: str
    amount: str


@dataclass(frozen=True, kw_only=True)
class ExportForm:
    """The tensors that an exported model returns, and how they become results outside torch."""

    outputs: Mapping[str, tuple[int | str, ...]]
    """Name of each output and its last axes: a number, "classes", "classes and background" or "keypoints" for their
    count, or "any". The first axis is the batch."""

    tensors: Callable[[Any, Any], Sequence[Tensor]]
    """(model, what its `forward` returned) -> the outputs, in their order."""

    decode: Callable[[Sequence[Tensor], Postprocess], list[Any]]
    """(outputs, postprocessing) -> the result for each image, as `Model.postprocess` gives it."""

    matches: Callable[[Any, Any, float], int] = Late("detect.export.comparison:matching_boxes")
    """(result of torch, result of the file, IoU threshold) -> how many items of both agree. It decides whether a
    float16 or int8 file is accepted."""

    rows: bool = False
    """Whether all outputs but those of `shared` have one row for each candidate box, which `--nms` can then suppress.
    The first two are boxes and scores."""

    shared: Sequence[str] = ()
    """Names of outputs that all candidate boxes of an image share, the last ones."""

    overlaps: Callable[[Sequence[Tensor], Sequence[Tensor], int], Tensor] = Late(
        "detect.export.comparison:box_overlaps"
    )
    """(outputs of one image, the same in fewer bits, image size) -> the IoU (R,) of each of R candidates in both. The
    outputs have R rows, those of `shared` are whole. It decides in which precision a runtime computes."""

    fields: Callable[..., Mapping[str, Any]] = dict
    """(the outputs behind boxes and scores, of one image) -> other fields of `Detections`, with a row for each box."""


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """The entries of an evaluation's result that are single numbers."""
    return {name: value for name, value in result.items() if isinstance(value, int | float)}


def sample_loader(
    samples: Callable[[Annotations, int, Preprocess, float], Any],
    annotations: Annotations,
    size: int,
    batch: int,
    preprocess: Preprocess,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    cache_gb: float = 0.0,
    pin: bool = False,
    square: bool = True,
) -> EvalBatches:
    """A `Task.eval_loader` for a dataset of samples of one size: `partial(sample_loader, samples)`.

    Args:
        samples: (annotations, image size, preprocessing, gigabytes of the image cache) -> the dataset.
    """
    from detect.data.loader import SampleLoader

    return SampleLoader(samples(annotations, size, preprocess, cache_gb), batch, workers, rank, world, pin)


def _number_lines(result: dict[str, Any]) -> Iterable[str]:
    return ["  ".join(f"{name} {value:.3f}" for name, value in numbers(result).items())]


def _number_table(page: Page, evaluation: Evaluation, detector: Detector, config: EvaluateConfig) -> None:
    values = numbers(evaluation.evaluator.result())
    page.table(list(values), [list(values.values())])


def _default_postprocess(config: EvaluateConfig | None = None) -> Postprocess:
    from detect.types import Postprocess

    return Postprocess(score=0.0)


def _any_data(training: Annotations, validation: Annotations) -> None:
    """Accept every dataset."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that is particular to a task: what it learns from, how it is evaluated, what it leaves behind.

    A registered task is legal in every command. Four fields are required; the defaults of the others suit a task on
    whole images that have boxes with classes.

        TASK = Task(name="count", noun="counter", metric="-error", evaluator=CountEvaluator, results_file="counts.json")
        register("task", "count")(TASK)

    A model belongs to the task that the `task` of its configuration names. The built-in tasks name functions of other
    modules by `Late("module:function")`, so that their files are cheap to import; others may import what they like.
    """

    name: str
    """Name, as in `--task NAME`. Lower case."""

    noun: str
    """What messages call a model of this task, such as "detector"."""

    metric: str
    """Name of the metric that chooses the best epoch, the greatest value; with a minus before it, the smallest."""

    evaluator: Callable[[Annotations], Evaluator]
    """(annotations of a split) -> the evaluator of one epoch."""

    defaults: Mapping[str, str] = field(default_factory=dict)
    """Options of `detect train` that this task sets where the user does not, by name: {"imgsz": "224"}. "model" is the
    model of `--task NAME` alone."""

    options: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"train": IMAGE_OPTIONS})
    """Options that only some tasks read, and this one does, by command. Such an option is an error for a task that
    does not list it. Example: {"evaluate": ("conf", "iou", "max_det")}. Default: those of `training_data`."""

    # What it learns from

    image_level_labels: str = ""
    """Whether data may label whole images (a folder for each class, or a csv), and what of them becomes the validation
    set where there is no split: "images" of each class, or whole "classes". Default: such data is refused."""

    counts_degenerate_boxes: bool = False
    """Whether the evaluator counts objects without width or height, and those outside their image, as pycocotools
    does. Else they are errors of the validation set, as they are of the training set."""

    outlines: Callable[[Annotations, bool], Annotations] = Late("detect.data.outline_checks:without_outlines")
    """(annotations, whether bad records are left out) -> the annotations with the outlines of objects that it uses.
    Default: without any."""

    check_data: Callable[[Annotations, Annotations], None] = _any_data
    """(training set, validation set) -> None. Raises UserError where nothing can be learned or measured."""

    training_data: Callable[[Annotations, TrainConfig, Preprocess, float], Any] = Late(
        "detect.tasks.detect:training_data"
    )
    """(annotations, configuration, preprocessing, gigabytes of image cache) -> the dataset of training samples: `len`,
    `seed`, and (image, Target) by `SampleKey`. Default: augmented images with their boxes."""

    eval_loader: Callable[..., EvalBatches] = Late("detect.data.loader:EvalLoader")
    """(annotations, size, batch, preprocess, workers=0, rank=0, world=1, cache_gb=0.0, pin=False, square=False) -> the
    batches that are evaluated; `square` is whether the model takes square canvases alone. Default: letterboxed images,
    those of one canvas together."""

    metadata: Callable[[Annotations, Preprocess], dict[str, Any]] = lambda annotations, preprocess: {}
    """(training set, preprocessing) -> fields of `ModelMetadata` that models of this task keep besides the common."""

    # How it is evaluated

    postprocess: Callable[[EvaluateConfig | None], Postprocess] = _default_postprocess
    """(configuration of `detect evaluate`, or None for an evaluation during training) -> how predictions are made.
    Default: every score counts."""

    match_classes: Callable[[ModelMetadata, Annotations], Tensor] = Late("detect.evaluation.class_matching:by_name")
    """(metadata of the weights, annotations) -> for each class of the weights its label in the annotations (C,), or
    -1. Raises UserError where they have nothing in common. Default: by name."""

    match_keypoints: Callable[[ModelMetadata, Annotations], Tensor] | None = None
    """(metadata of the weights, annotations) -> for each keypoint of the annotations its index in the weights (K,).
    Default: results have no keypoints."""

    evaluate: Callable[[EvaluateConfig, Sequence[Detector], Postprocess], Evaluation] = Late(
        "detect.evaluation.evaluate:evaluate_split"
    )
    """(configuration, the models of --weights, postprocessing) -> the finished evaluation. Default: one model, whose
    predictions on the split go to `evaluator` with the labels that `match_classes` gives them."""

    judged: Callable[[Any], Judged] | None = None
    """(evaluator) -> its predictions with their confidences, and whether each is right. Default: nothing is said of
    calibration."""

    calibrate: Callable[..., tuple[ScoreCalibration, Judged, list[str]]] | None = None
    """(configuration, evaluation, metadata of the weights, what it is fitted on) -> the calibration, the predictions
    after it, and lines that tell of it. Its options are then in `options`. Default: --save-calibration is refused."""

    progress_metrics: Sequence[str] = ()
    """Metrics on the line that training prints after each epoch."""

    summary_lines: Callable[[dict[str, Any]], Iterable[str]] = _number_lines
    """(result of the evaluator) -> the lines that `detect evaluate` prints. Default: the single numbers."""

    views: Callable[[Callable[..., Any], int, Postprocess, bool, bool], Any] | None = None
    """(maker of predictors, image size, postprocessing, tta, tile) -> the predictor of `--tta` and `--tile`, as
    `detect.inference.views` has it; the maker takes an image size, postprocessing and `finish` of a `Predictor`.
    Default: both are refused."""

    fuse: Callable[[Sequence[Detector], Sequence[str], FusionConfig], Any] | None = None
    """(models, their files, options) -> what makes one result of theirs, as `detect.inference.detection_fusion` and
    `embedding_fusion` do. Default: several --weights are refused."""

    # What it leaves behind

    results_file: str = ""
    """Name of the JSON file that `detect predict` writes. Default: `detect predict` refuses models of this task."""

    record_fields: Sequence[str] = ()
    """Fields of the records of a result (`Result.records`): columns in Parquet. Default: Parquet is refused."""

    prints_results: bool = False
    """Whether `detect predict` also prints a line for each image."""

    detects_objects: bool = False
    """Whether a result may hold any number of boxes, so that `detect serve` and `detect embed --detector` take it."""

    labels_pixels: bool = False
    """Whether a result is a class map, a `detect.semantic.SemanticMap`, so that `detect serve` shows that."""

    makes_embeddings: bool = False
    """Whether a result is an embedding, so that `detect embed`, `verify`, `identify` and the tracker take the model."""

    own_commands: str = ""
    """Commands for models that `detect predict` and `detect export` refuse, as messages name them."""

    export: ExportForm | None = None
    """The exported form. Default: `detect export` refuses models of this task."""

    curves: Sequence[str] = ()
    """Metrics drawn over the epochs in the report. Default: `metric`. The one that the evaluator gives first must be
    among them: the report takes what comes before it in `metrics.jsonl` for loss terms."""

    report_section: Callable[[Page, Evaluation, Any, EvaluateConfig], None] = _number_table
    """(page, evaluation, its model or None, options of `detect evaluate`) -> None: adds what the report of a run and
    `detect evaluate --page` say of an evaluation. Default: a table of the single numbers."""

    def __post_init__(self) -> None:
        if self.name != self.name.lower() or not self.name:
            raise ValueError(f"task {self.name!r}: names are lower case")

    @property
    def with_article(self) -> str:
        """The noun with its article: "a detector", "an embedder"."""
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    def require_results_file(self, weights: str) -> str:
        """The name of the file that `detect predict` writes.

        Raises:
            UserError: there is none.
        """
        if not self.results_file:
            other = f": its commands are {self.own_commands}" if self.own_commands else ", which detect predict lacks"
            raise UserError(f"{weights} is {self.with_article}{other}")
        return self.results_file
