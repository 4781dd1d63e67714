"""Options of every command that runs a model on images and videos: the model, the images, and how it predicts."""

from __future__ import annotations

from dataclasses import dataclass, field

from detect.config.constraints import Count, Natural, Precision, Share, SideOrDefault
from detect.config.fusion import FusionConfig
from detect.config.tracking import TrackConfig


@dataclass(frozen=True)
class ImageInferenceConfig:
    """What commands share that predict each image, or frame, by itself."""

    weights: list[str]
    """Weights: a file, an exported one, or a name of `detect weights`. Several classifiers: their probabilities are
    averaged. Several detectors: their boxes are fused."""
    source: str
    """Image, folder, glob, text file of paths, video, camera number or stream URL."""
    out: str
    """Folder to write to."""
    recursive: bool = False
    """Also read the folders inside a folder."""
    max_pixels: Natural = 0
    """Largest image or video frame, in pixels. Default (0): 500 million for an image, 35,651,584 (8192 x 4352) for a
    frame. A small file can fill all memory otherwise."""
    imgsz: SideOrDefault = 0
    """Image size in pixels. Default: the training size."""
    batch: Count = 1
    """Images that go through the network together."""
    iou: Share = 0.7
    """IoU threshold of NMS. Of two boxes of a class that overlap more, the lower-scored one is dropped."""
    max_det: Count = 300
    """Most detections in an image."""
    agnostic: bool = False
    """Let boxes of different classes suppress one another."""
    soft: bool = False
    """Soft-NMS: lower the score of overlapping boxes, keep them."""
    classes: list[str] = field(default_factory=list)
    """Names or indices of the classes to keep. Default: all."""
    tta: bool = False
    """Test-time augmentation: several sizes and mirror images."""
    tile: bool = False
    """Predict in overlapping tiles where an image is larger than --imgsz."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """How the boxes of several --weights become one result."""
    vid_stride: Count = 1
    """Read every N-th frame of a video."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Precision = "auto"
    """Type of numbers in the network. Default: measured on this machine."""


@dataclass(frozen=True)
class InferenceConfig(ImageInferenceConfig):
    """What `detect predict` and `detect label` share."""

    skip_bad: bool = False
    """Leave out files that cannot be read, and list them at the end."""
    track: bool = False
    """Follow objects through the frames, and number them. Only detections that belong to a track are reported."""
    tracker: TrackConfig = field(default_factory=TrackConfig)
    """Options of the tracker."""
