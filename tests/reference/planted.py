"""A network that finds pure magenta, images that hold some, and films of them: ground truth that tests can plant."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from detect.data.letterbox import Letterbox
from detect.masks import Masks, RleMasks
from detect.models.base import ModelMetadata
from detect.types import Detections, Postprocess

MAGENTA = (255, 0, 255)


class MagentaFinder(torch.nn.Module):
    """One box around all magenta pixels of each image; notes the shapes it was given."""

    metadata = ModelMetadata(["nothing", "magenta"], [1, 2])
    square = False
    needs_proposals = False

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        self.shapes.append(tuple(images.shape))
        return images

    def postprocess(self, raw: torch.Tensor, keep: Postprocess) -> list[Detections]:
        found = []
        for image in raw.cpu().int():
            rows, columns = torch.where((image[0] > 180) & (image[1] < 90) & (image[2] > 180))
            if not len(rows):
                found.append(Detections.none())
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found.append(Detections(torch.tensor([box]).float(), torch.tensor([0.9]), torch.tensor([1])))
        return found


class ThingFinder(MagentaFinder):
    """A box around each connected patch of magenta."""

    def postprocess(self, raw: torch.Tensor, keep: Postprocess) -> list[Detections]:
        found = []
        for image in raw.cpu().int():
            mask = (image[0] > 180) & (image[1] < 90) & (image[2] > 180)
            patches = cv2.connectedComponentsWithStats(mask.numpy().astype(np.uint8))[2][1:, :4]
            boxes = torch.from_numpy(patches).float()
            boxes[:, 2:] += boxes[:, :2]
            found.append(Detections(boxes, torch.full((len(boxes),), 0.9), torch.ones(len(boxes)).long()))
        return found


class CanvasMasks(Masks):
    """Masks (N, h, w) bool of a canvas."""

    def __init__(self, dense: np.ndarray) -> None:
        self.dense = dense

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, index: torch.Tensor) -> "CanvasMasks":
        return CanvasMasks(self.dense[index.numpy()])

    def in_source(self, fit: Letterbox, boxes: torch.Tensor) -> RleMasks:
        (height, width), source = fit.inner, fit.source[::-1]
        inner = self.dense[:, fit.top : fit.top + height, fit.left : fit.left + width].astype(np.uint8)
        whole = [cv2.resize(mask, source, interpolation=cv2.INTER_NEAREST) for mask in inner]
        return RleMasks.of(np.array(whole, bool).reshape(len(self), *fit.source))


class ShapeFinder(MagentaFinder):
    """The mask of each connected patch of magenta, and its box."""

    def postprocess(self, raw: torch.Tensor, keep: Postprocess) -> list[Detections]:
        found = []
        for image in raw.cpu().int():
            mask = (image[0] > 180) & (image[1] < 90) & (image[2] > 180)
            count, patch, boxes = cv2.connectedComponentsWithStats(mask.numpy().astype(np.uint8))[:3]
            boxes = torch.from_numpy(boxes[1:, :4]).float()
            boxes[:, 2:] += boxes[:, :2]
            masks = CanvasMasks(patch == np.arange(1, count)[:, None, None])
            found.append(Detections(boxes, torch.full((len(boxes),), 0.9), torch.ones(len(boxes)).long(), masks=masks))
        return found


def planted(height: int, width: int, box: tuple[int, int, int, int] | None) -> np.ndarray:
    """A grey image with a magenta rectangle at box (x1, y1, x2, y2)."""
    image = np.full((height, width, 3), 90, np.uint8)
    if box:
        image[box[1] : box[3], box[0] : box[2]] = MAGENTA
    return image


def spot(height: int, width: int, x: float, y: float) -> np.ndarray:
    """A black image with a soft white spot whose middle is at (x, y), the centre of the first pixel at 0.5."""
    rows, columns = np.indices((height, width)) + 0.5
    light = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 5)
    return np.repeat(light[..., None], 3, 2).astype(np.uint8)


def film(path: Path, images: list[np.ndarray], times: list[Fraction], rate: Fraction) -> None:
    """A video of the images shown at the times (seconds), near lossless."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4", "g": "10"})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def moving(count: int, height: int = 96, width: int = 128) -> tuple[list[np.ndarray], list[tuple[int, int, int, int]]]:
    """Pictures of a rectangle that moves, and its box in each."""
    boxes = [(8 + 2 * i, 16 + i, 40 + 2 * i, 48 + i) for i in range(count)]
    return [planted(height, width, box) for box in boxes], boxes
