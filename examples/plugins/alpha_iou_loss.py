"""The alpha-IoU box loss (He et al., 2021), 1 - IoU^3: boxes that fit well already get larger gradients.

detect train --plugin ./alpha_iou_loss.py --data toy --model.loss.box_kind alpha_iou
"""

from torch import Tensor

from anchors.boxes import iou_aligned
from detect.registry import register

ALPHA = 3


@register("loss.box", "alpha_iou")
def alpha_iou(predicted_boxes: Tensor, target_boxes: Tensor) -> Tensor:
    """The loss of each box (N,) for predicted and target boxes (N, 4) xyxy."""
    return 1 - iou_aligned(predicted_boxes, target_boxes, "iou").clamp(min=1e-6) ** ALPHA
