"""Codes of boxes relative to priors, and their inverses.

The distances of anchor-free heads are coded by `anchors.grid.Priors`.
Boxes are (..., 4) xyxy px, centres (..., 2) px, strides (...), anchors (..., 2) width and height in px; all broadcast.
Encoding is finite for any box: values that a code cannot express become the nearest that it can.
"""

import math

import torch
from torch import Tensor

from anchors.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh

_LOG_LIMIT = math.log(1000 / 16)  # the growth at which exp is cut, as in torchvision and Detectron
_TINY = 1e-6
_EDGE = 1e-4  # how near a sigmoid may be asked to come to 0 and 1


def encode_deltas(
    boxes: Tensor, reference: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)
) -> Tensor:
    """Encode boxes as R-CNN deltas (Girshick 2014): centre shift over the reference's size, log ratio of sizes.

    Args:
        boxes: boxes (..., 4) to encode.
        reference: boxes (..., 4) that they are relative to, such as proposals.
        weights: factors of the four deltas.

    Returns:
        Deltas (..., 4).
    """
    center, size = xyxy_to_cxcywh(boxes).chunk(2, -1)
    origin, unit = xyxy_to_cxcywh(reference).chunk(2, -1)
    unit = unit.clamp_min(_TINY)
    codes = torch.cat(((center - origin) / unit, torch.log(size.clamp_min(_TINY) / unit)), -1)
    return codes * codes.new_tensor(weights)


def decode_deltas(
    codes: Tensor, reference: Tensor, weights: tuple[float, float, float, float] = (1, 1, 1, 1)
) -> Tensor:
    """Decode R-CNN deltas; growth is limited to 62.5 times the reference's side.

    Args:
        codes: deltas (..., 4).
        reference: boxes (..., 4) that they are relative to.
        weights: factors of the four deltas, as in `encode_deltas`.

    Returns:
        Boxes (..., 4).
    """
    shift, growth = (codes / codes.new_tensor(weights)).chunk(2, -1)
    origin, unit = xyxy_to_cxcywh(reference).chunk(2, -1)
    return cxcywh_to_xyxy(torch.cat((shift * unit + origin, growth.clamp_max(_LOG_LIMIT).exp() * unit), -1))


def encode_offsets(
    boxes: Tensor, centers: Tensor, strides: Tensor, anchors: Tensor, reach: Tensor | float = 1.0
) -> Tensor:
    """Encode boxes as YOLO offsets (Redmon and Farhadi 2018): logit of the position in the cell, log ratio of sizes.

    Args:
        boxes: boxes (..., 4) to encode.
        centers: centres of the cells (..., 2).
        strides: strides of the cells (...).
        anchors: width and height of the anchors (..., 2).
        reach: width of the range of positions around the cell's centre, in strides (scale_x_y of Bochkovskiy et al.
            2020).

    Returns:
        Offsets (..., 4).
    """
    center, size = xyxy_to_cxcywh(boxes).chunk(2, -1)
    place = (center - centers) / (strides * reach)[..., None] + 0.5
    growth = torch.log(size.clamp_min(_TINY) / anchors.clamp_min(_TINY))
    return torch.cat((place.clamp(_EDGE, 1 - _EDGE).logit(), growth), -1)


def decode_offsets(
    codes: Tensor, centers: Tensor, strides: Tensor, anchors: Tensor, reach: Tensor | float = 1.0
) -> Tensor:
    """Decode YOLO offsets: sigmoid of the position in the cell, exp of the size; growth is limited to 62.5 times.

    Args:
        codes: offsets (..., 4).
        centers: centres of the cells (..., 2).
        strides: strides of the cells (...).
        anchors: width and height of the anchors (..., 2).
        reach: as in `encode_offsets`.

    Returns:
        Boxes (..., 4).
    """
    place, growth = codes.chunk(2, -1)
    center = (place.sigmoid() - 0.5) * (strides * reach)[..., None] + centers
    return cxcywh_to_xyxy(torch.cat((center, growth.clamp_max(_LOG_LIMIT).exp() * anchors), -1))


def encode_bounded(boxes: Tensor, centers: Tensor, strides: Tensor, anchors: Tensor) -> Tensor:
    """Encode boxes as bounded offsets (Scaled-YOLOv4, Wang et al. 2021): the logits that `decode_bounded` inverts.

    Args:
        boxes: boxes (..., 4) to encode.
        centers: centres of the cells (..., 2).
        strides: strides of the cells (...).
        anchors: width and height of the anchors (..., 2).

    Returns:
        Offsets (..., 4).
    """
    center, size = xyxy_to_cxcywh(boxes).chunk(2, -1)
    place = (center - centers) / strides[..., None] / 2 + 0.5
    growth = (size / anchors.clamp_min(_TINY)).clamp_min(0).sqrt() / 2
    return torch.cat((place, growth), -1).clamp(_EDGE, 1 - _EDGE).logit()


def decode_bounded(codes: Tensor, centers: Tensor, strides: Tensor, anchors: Tensor) -> Tensor:
    """Decode bounded offsets: the centre is within one stride of the cell's, each side below 4 times the anchor's.

    With s the sigmoid: centre = cell centre + (2 s - 1) stride, size = (2 s)^2 anchor.

    Args:
        codes: offsets (..., 4).
        centers: centres of the cells (..., 2).
        strides: strides of the cells (...).
        anchors: width and height of the anchors (..., 2).

    Returns:
        Boxes (..., 4).
    """
    place, growth = codes.sigmoid().chunk(2, -1)
    center = (2 * place - 1) * strides[..., None] + centers
    return cxcywh_to_xyxy(torch.cat((center, (2 * growth).square() * anchors), -1))
