"""`detect mistakes`: find label errors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from detect.config.constraints import Count, Natural, Precision, Range, Registered, Share, ShareOrUnset, SideOrDefault
from detect.utils.locks import locked_folder, under


@dataclass(frozen=True)
class MistakesConfig:
    """Rank the labels of a dataset by how likely they are wrong: missing, spurious, wrong class, wrong box, duplicate.

    Labels are compared with the predictions of models that were not trained on their images. Without --weights such
    models are trained here: the images are divided into folds, near duplicates together, and the model for each fold
    learns from the others. The same command resumes what was broken off. Nothing is written into the dataset. For
    detectors, instance segmenters and detectors of oriented boxes; all are compared by their boxes.
    """

    published: ClassVar = "picodet_s_416"  # what messages suggest as --weights

    data: str
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC."""
    split: str = "train"
    """Split whose labels are examined: train, val or test."""
    out: str = "runs/mistakes"
    """Folder to write to."""
    weights: str = ""
    """Weights that predict for all images: a file, or a name of `detect weights`. They must not have been trained on
    these images."""
    results: str = ""
    """COCO results file to take the predictions from, of models that were not trained on these images."""
    folds: Annotated[int, Range(2, 100)] = 3
    """Number of folds, and of models that are trained. More folds: more images for each, and more time."""
    model: str = ""
    """Model to train for each fold: a name of detect info, or a YAML file. Default: that of --fine-tune, or yolo_n."""
    fine_tune: str = ""
    """Weights that each fold's model starts from: a file, or a name of `detect weights`. They must not have been
    trained on these images either."""
    epochs: Count = 30
    """Passes over the training images of each fold."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: that of the weights, or 640."""
    batch: Count = 16
    """Images that go through the network together."""
    train_options: str = ""
    """YAML file of further options of `detect train` for the folds."""
    seed: Natural = 0
    """Seed of the folds and their training."""
    min_score: Share = 0.1
    """Least score of a mistake that is listed."""
    format: Annotated[str, Registered("labels")] = "coco"
    """Format of the labels to review, and of the corrected ones: coco, yolo, voc, cvat, label-studio or labelme."""
    correct_above: ShareOrUnset = None
    """Also write a new dataset in which the suggestions of this score and more are applied. Default: none."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""
    workers: Annotated[int, Range(-1)] = -1
    """Processes that load data. Default: chosen by the machine; 0: none."""
    skip_bad: bool = False
    """Leave out broken images and annotations, and list them."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""


@under(lambda config: locked_folder(Path(config.out)))
def mistakes(config: MistakesConfig) -> Any:
    """Find label errors; write them to `out`.

    Raises:
        UserError: the data, the weights or the folder cannot be used.
    """
    from detect.mistakes.search import search

    return search(config)
