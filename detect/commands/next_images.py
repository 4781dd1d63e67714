"""`detect next`: choose which unlabelled images to label next."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from detect.config.constraints import Count, Natural, Precision, ReadWith, Share, SideOrDefault
from detect.utils.locks import locked_folder, under


@dataclass(frozen=True)
class NextImagesConfig:
    """Choose which unlabelled images to label next: a ranked list with reasons, and a page of thumbnails.

    Images are chosen one after the other, each time the one with the highest weighted mean of the criteria; each
    criterion is on a scale from 0 to 1. Writes next.json, next.csv, images.txt (paths, which --source takes) and
    next.html into `out`.
    """

    published: ClassVar = "picodet_s_416"  # what messages suggest as --weights

    weights: str
    """Weights of a detector, segmenter, keypoint detector or classifier: a file, or a name of `detect weights`. Best
    those trained on what is labelled already."""
    source: str
    """Unlabelled images: an image, a folder, a glob, or a text file of paths."""
    budget: Count = 20
    """Images to choose."""
    out: str = "runs/next"
    """Folder to write to."""
    data: str = ""
    """Dataset that is labelled already: a YAML file, a folder, or toy. Images like its images are left out;
    diversity is measured from them; rarity counts their objects. Default: nothing is labelled."""
    split: Annotated[str, ReadWith("data")] = "train"
    """Split of the dataset."""
    allow_outside: Annotated[bool, ReadWith("data")] = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""
    criteria: list[str] = field(default_factory=lambda: ["uncertainty=1", "diversity=1"])
    """Criteria with their weights, as in `uncertainty=1 diversity=0.5`. uncertainty: entropy of the predictions;
    margin: closeness of the best two answers; disagreement: predictions that change when the image is mirrored or
    smaller (three times the work); rarity: predicted objects of classes with few labels; diversity: distance of the
    features to those of labelled and chosen images. Plugins add others."""
    per_image: Literal["sum", "mean", "max"] = "sum"
    """How the values of the objects of an image become one. With sum, images of many objects come first; mean and max
    suit labelling that is paid by object."""
    keep_duplicates: bool = False
    """Also choose images that are almost the same as a chosen or labelled one."""
    conf: Share = 0.1
    """Confidence threshold. Predictions with a lower score do not count."""
    iou: Share = 0.5
    """IoU threshold of NMS. Of two boxes of a class that overlap more, the lower-scored one is dropped."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: the training size."""
    batch: Count = 1
    """Images that go through the network together."""
    recursive: bool = False
    """Also read the folders inside a folder."""
    skip_bad: bool = False
    """Leave out files that cannot be read, and list them at the end."""
    max_pixels: Natural = 0
    """Largest image, in pixels. Default (0): 500 million. A small file can fill all memory otherwise."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""


@under(lambda config: locked_folder(Path(config.out)))
def next_images(config: NextImagesConfig) -> Path:
    """Choose images, and write what was chosen and why into `out`.

    Returns:
        The page.

    Raises:
        UserError: the weights, the source, the data or an option cannot be used.
    """
    from detect.selection.run import select

    return select(config)
