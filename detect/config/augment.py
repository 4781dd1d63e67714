"""Options of image augmentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from detect.config.constraints import Natural, Range, ReadWith, Share
from detect.config.fields import ADVANCED


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are augmented. Probabilities and shares are from 0 to 1.

    `rotate`, `shear`, `perspective`, `warp` and `crop` are drawn for each image, mosaic or crop, and are off by
    default. A rotated box is the bounding box of the ellipse in it.
    """

    on: bool = True
    """Whether images are augmented at all."""
    mosaic: Share = 1.0
    """Probability of a mosaic of four images."""
    mosaic_off: Natural = 10
    """Last epochs, without mosaic and mixup."""
    mixup: Share = 0.0
    """Probability of blending two images."""
    scale: Share = 0.5
    """Zoom: s draws a factor from 1 - s to 1 + s."""
    translate: Share = 0.1
    """Largest shift, as a share of the side."""
    rotate: Annotated[float, Range(0, 180)] = 0.0
    """Largest rotation, in degrees."""
    shear: Annotated[float, Range(0, 45)] = 0.0
    """Largest shear, in degrees."""
    perspective: Annotated[float, Range(0, 0.3)] = 0.0
    """Largest perspective. At p the near side is shown 1 + p times as large as the middle."""
    warp: Annotated[float, Range(0, 0.05)] = 0.0
    """Largest local warping, as a share of the side. Every pixel moves smoothly."""
    crop: Share = 0.0
    """Probability of cutting an image to a random part."""
    crop_min: Annotated[float, Range(0.05, 1), ReadWith("augment.crop"), ADVANCED] = 0.5
    """Smallest width and height of that part, as a share of the image's."""
    flip: Share = 0.5
    """Probability of a mirror image."""
    hue: Share = 0.015
    """Largest relative change of the hue."""
    saturation: Share = 0.7
    """Largest relative change of the saturation."""
    value: Share = 0.4
    """Largest relative change of the brightness."""
    visibility: Annotated[Share, ADVANCED] = 0.1
    """A box is kept if at least this share of its area stays in the image."""
    flip_pairs: Annotated[list[list[int]], ADVANCED] = field(default_factory=list)
    """Pairs of keypoints that a mirror image swaps, by number: [[0, 1], …]. Default: as the data says."""
    albumentations: list[dict[str, dict]] = field(default_factory=list)
    """Further transforms, a list of {transform: arguments}. Needs the extra albumentations; `rotate_method:
    largest_box` takes the four corners of a box."""
    transforms: Annotated[list[dict[str, dict]], ADVANCED] = field(default_factory=list)
    """Registered transforms that come next, those of plugins, say: a list of {transform: arguments}."""
    stylized: Annotated[str, ADVANCED] = ""
    """Folder of copies made by detect stylize, which stand in for their images."""
    stylized_share: Annotated[Share, ReadWith("augment.stylized"), ADVANCED] = 0.2
    """Registered transforms, which come next: a list of {transform: arguments}."""
