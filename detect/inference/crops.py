"""The crops of `detect predict --save-crop`: each object as an image of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from detect.data.alignment import aligned
from detect.data.image_writer import save_image
from detect.inference.output_folder import OutputPaths
from detect.inference.sink import Sink
from detect.masks import RleMasks
from detect.types import Detections, Frame
from detect.utils.names import file_names


class CropSink(Sink):
    """The crop of each box, in a folder for each class: as JPEG, or as PNG if it is transparent outside the mask.

    The crop of an oriented box is turned until its longer side lies along x. With the mean shape (K, 2) of a
    landmarker, which finds one object in an image, crops are aligned: see `Pose`.

    Args:
        paths: names of the files.
        names: class names by label.
        shape: the mean shape.
        transparent: whether crops of objects with masks are transparent outside them.
    """

    def __init__(
        self,
        paths: OutputPaths,
        names: Sequence[str],
        shape: Sequence[Sequence[float]] = (),
        transparent: bool = False,
    ) -> None:
        self.paths, self.shape, self.transparent = paths, np.array(shape), transparent
        self.folders = file_names(names)

    def write(self, frame: Frame, result: Detections, annotated: np.ndarray) -> None:
        stem = self.paths.of(frame).relative_to(self.paths.root)
        for label, (mark, image) in zip(result.labels.tolist(), self._crops(frame.image, result), strict=True):
            path, suffix = self.paths.root / self.folders[label] / stem, ".png" if image.shape[2] == 4 else ".jpg"
            save_image(self.paths.written.claim(path.with_name(f"{path.name}{mark}{suffix}")), image)

    def _crops(self, image: np.ndarray, result: Detections) -> Iterator[tuple[str, np.ndarray]]:
        if len(self.shape):
            yield from self._aligned(image, result)
        elif result.oriented is not None:
            for i, box in enumerate(result.oriented.double().tolist()):
                yield f"_{i}", upright(image, *box)
        else:
            yield from self._boxes(image, result)

    def _boxes(self, image: np.ndarray, result: Detections) -> Iterator[tuple[str, np.ndarray]]:
        edges = torch.cat((result.boxes[:, :2].floor(), result.boxes[:, 2:].ceil()), dim=1).int().tolist()
        for i, (left, top, right, bottom) in enumerate(edges):
            crop = image[top:bottom, left:right]
            if self.transparent and isinstance(result.masks, RleMasks):
                (alpha,) = result.masks[[i]].shifted(-left, -top, crop.shape[:2]).numpy()
                crop = np.dstack([crop, alpha.astype(np.uint8) * np.uint8(255)])
            yield f"_{i}", crop

    def _aligned(self, image: np.ndarray, result: Detections) -> Iterator[tuple[str, np.ndarray]]:
        """The aligned object, under the name of its image; the whole image if it cannot be aligned."""
        if len(result):
            view = aligned(image, result, self.shape)
            yield "", image if view is None else view

    def skip(self, frame: Frame) -> None:
        self.paths.of(frame)


def upright(image: np.ndarray, cx: float, cy: float, w: float, h: float, angle: float) -> np.ndarray:
    """What an oriented box holds, with its side w along x; black where it leaves the image."""
    width, height, cosine, sine = max(1, round(w)), max(1, round(h)), np.cos(angle), np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])  # the axes of the crop, in the image
    reach = np.abs(turn) @ np.array([width, height]) / 2 + 1
    room = np.array(image.shape[1::-1])
    low = np.floor(np.array([cx, cy]) - reach).clip(0, room - 1).astype(int)  # OpenCV turns no image of 32,768 pixels
    high = np.ceil(np.array([cx, cy]) + reach).clip(low + 1, room).astype(int)
    first = np.array([cx, cy]) - low - turn @ np.array([width - 1, height - 1]) / 2 - 0.5  # the middle of a pixel
    to_image = np.hstack([turn, first[:, None]])
    part = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    return cv2.warpAffine(part, to_image, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
