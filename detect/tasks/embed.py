"""Embedding: a vector for each crop, near those of the same identity and far from those of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.tasks import classify
from detect.tasks.base import Evaluation, Late, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from detect.api import Detector
    from detect.commands.evaluate import EvaluateConfig
    from detect.config.train import TrainConfig
    from detect.data.annotations import Annotations
    from detect.report.html import Page
    from detect.types import Postprocess, Preprocess


def training_data(annotations: Annotations, config: TrainConfig, preprocess: Preprocess, cache_gb: float) -> Any:
    """Augmented crops in batches of several identities with several images of each."""
    from detect.data.datasets.crops import Crops
    from detect.data.datasets.identities import IdentityDataset

    augment = config.augment if config.augment.on else None
    rest = config.imgsz, augment, config.seed, preprocess, cache_gb
    return IdentityDataset(
        Crops.of(annotations), *rest, batch=config.batch, images_per_identity=config.images_per_identity
    )


def make_evaluator(annotations: Annotations) -> Any:
    """The evaluator of all pairs of crops."""
    from detect.data.datasets.crops import Crops
    from detect.evaluation.verification import PairEvaluator

    return PairEvaluator(Crops.of(annotations))


def evaluate(config: EvaluateConfig, members: Sequence[Detector], postprocess: Postprocess) -> Evaluation:
    """Evaluate the model, perhaps an ensemble, on all pairs of the split, or on those of the csv in `--pairs`."""
    from detect.data.datasets.crops import Crops
    from detect.data.datasets.identities import require_pairs
    from detect.embedding.pairs import read_pairs
    from detect.evaluation.evaluate import only_one, open_split
    from detect.evaluation.verification import PairEvaluator

    detector = only_one(members)
    annotations = open_split(config, TASK)
    crops = Crops.of(annotations)
    if not config.pairs:
        require_pairs(annotations)
    evaluator = PairEvaluator(crops, read_pairs(Path(config.pairs), crops) if config.pairs else None)
    for ids, vectors in _embeddings(config, detector, annotations, postprocess):
        evaluator.update(ids, vectors)
    return Evaluation(annotations, evaluator, config.pairs or str(annotations.path), f"{len(annotations)} images")


def _embeddings(
    config: EvaluateConfig, detector: Detector, annotations: Annotations, postprocess: Postprocess
) -> Iterator[tuple[Any, list[Any]]]:
    """Ids of crops with their embeddings, which several models join: each takes crops of its size and preprocessing."""
    from detect.ensemble import members_of
    from detect.evaluation.evaluate import predictions
    from detect.inference.embedding_fusion import EmbeddingFusion

    members = members_of(detector)
    fuse = EmbeddingFusion(members, config.weights, config.fusion)
    each = [list(predictions(config, member, annotations, postprocess)) for member in members]
    for batches in zip(*each, strict=True):  # all canvases of a model have one size, so that all have the same order
        yield batches[0][0], [fuse(postprocess, one) for one in zip(*(found for _, found in batches), strict=True)]


def report_section(page: Page, evaluation: Evaluation, detector: Detector, config: EvaluateConfig) -> None:
    """The metrics, the thresholds and the ROC curve."""
    result = evaluation.evaluator.result()
    page.table([name for name in result if name not in ("roc", "thresholds")], [[*result.values()][:-2]])
    page.table(("threshold", "distance"), list(result["thresholds"].items()))
    page.curves({"": result["roc"]}, "true accepts by false accepts", "false accepts", "true accepts")


TASK = Task(
    name="embed",
    noun="embedder",
    metric="auc",
    evaluator=make_evaluator,
    defaults={"model": "embedder", "imgsz": "64", "batch": "64", "augment.scale": "0.2"},
    options={
        "train": ("images_per_identity", "augment.stylized", "augment.crop"),
        "evaluate": ("pairs", "fusion.weights"),
    },
    image_level_labels="classes",
    check_data=Late("detect.data.datasets.identities:require_identities"),
    training_data=training_data,
    eval_loader=classify.TASK.eval_loader,
    evaluate=evaluate,
    progress_metrics=("auc", "eer", "accuracy"),
    summary_lines=Late("detect.evaluation.verification:pair_lines"),
    makes_embeddings=True,
    fuse=Late("detect.inference.embedding_fusion:EmbeddingFusion"),
    own_commands="detect embed, verify and identify",
    report_section=report_section,
)
