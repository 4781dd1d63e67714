"""Sliding windows: a classifier of windows at every position and scale of an image (Sermanet et al., 2014).

Axes: B batch, A windows, C classes, M objects padded over a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad, smooth_l1_loss

from anchors.assign import PaddedTargets, pad_targets
from anchors.grid import Priors
from anchors.windows import assign, slid
from detect.errors import UserError
from detect.models.backbones import parts
from detect.models.backbones.base import Network, shortened
from detect.models.backbones.fully_convolutional import convolutional
from detect.models.base import Model, ModelMetadata
from detect.models.configs.sliding_window import SlidingWindowConfig
from detect.models.losses.federated import complete_at, without_unknown
from detect.models.yolo import select_detections
from detect.types import Detections, HeadOutput, LossTerm, NamedRows, Postprocess, Target

POSITIVE, NEGATIVE = 0.6, 0.3  # fit from which on a window is assigned to an object, and below which it is background
HARD = 3  # windows without an object that count, for each one with an object
HIDDEN = 128  # width of the new dense layer of a network that ends early
SMOOTH_L1_BETA = 1 / 9  # of the loss of edges, in sides of a window: above it the loss is linear


class SlidingWindow(Model):
    """images (B, 3, H, W) uint8 -> HeadOutput: logits (B, A, C + 1), the last for background, at several scales.

    regression (B, A, 4) is the distance of the edges of the box from those of the window, in sides of the window; with
    `config.regress` off it is (B, A, 0), and a box is its window. An image of the size of one window is one window, so
    training on crops and detection in images use the same methods.
    """

    size_in_graph = True  # as the number of scales
    config: SlidingWindowConfig

    def __init__(self, config: SlidingWindowConfig, metadata: ModelMetadata, network: Network):
        super().__init__(config, metadata)
        self.network, self.window, self.step = network, config.window, network.stride
        weights = [*(config.class_weights or [1.0] * len(metadata.names)), 1.0]
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor, given: Sequence[Target] | None = None) -> HeadOutput:
        """The output for all windows, those of one scale in one pass; `given` is not used."""
        return self._run(images, lambda x: self.network(x).logits)

    def by_crops(self, images: Tensor) -> HeadOutput:
        """The same, each window cropped and classified alone: equal to `forward` if the network has no padding."""
        return self._run(images, self._cropped)

    def backbone_stages(self) -> list[str]:
        """The stages of the network, then the layers before its last one."""
        return [*(f"network.stages.{i}" for i in range(len(self.network.stages))), "network.neck"]

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """The last layer: classes, then background and the edges."""
        return [(layer, NamedRows()) for layer in self.network.outputs()]

    def loss(self, raw: HeadOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Cross-entropy over the classes and background, and smooth L1 of the edges of windows with an object.

        Of the windows without an object only the HARD hardest for each one with an object count (at least HARD): online
        hard example mining (Shrivastava et al., 2016). Mining by passes over the training set between epochs would find
        the same kind of window, but be a state between steps; this is a function of the batch and the weights alone, so
        a run that was killed resumes with the same bits.

        Args:
            raw: what `forward` returned.
            targets: the target of each image.
        """
        padded = pad_targets([(t.boxes, t.labels, t.crowd) for t in targets])
        ground_truth = PaddedTargets(*(x.to(raw.logits.device, non_blocking=True) for x in padded))
        index = assign(raw.priors, ground_truth, POSITIVE, NEGATIVE)
        matched = torch.where(index >= 0)
        background = raw.logits.shape[-1] - 1
        labels = torch.full_like(index, background).index_put(matched, ground_truth.labels[matched[0], index[matched]])
        logits = raw.logits.to(torch.promote_types(raw.logits.dtype, torch.float32))
        logits = without_unknown(logits, labels, complete_at(raw.priors.centers, targets))
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
        positive = index >= 0
        counted = positive | hardest(losses.detach(), index == -1, HARD * positive.sum().clamp(min=1))
        weight = self.get_buffer("class_weights")[labels] * counted
        count, w = weight.sum(), self.config.loss
        terms = {"classes": LossTerm(w.classes * (weight * losses).sum(), count)}
        if self.config.regress:
            assert raw.priors.boxes is not None
            windows = raw.priors.boxes[matched[1]]
            target_deltas = (ground_truth.boxes[matched[0], index[matched]] - windows) / sides(windows)
            box_losses = smooth_l1_loss(
                raw.regression[matched].float(), target_deltas, beta=SMOOTH_L1_BETA, reduction="none"
            ).sum(-1)
            terms["box"] = LossTerm(w.box * box_losses.sum(), count)
        return terms

    def candidates(self, raw: HeadOutput) -> tuple[Tensor, Tensor]:
        """The box of every window (B, A, 4) in canvas pixels and its scores (B, A, C)."""
        windows = raw.priors.boxes
        assert windows is not None
        boxes = windows.expand(len(raw.logits), -1, -1)
        if self.config.regress:
            boxes = boxes + raw.regression.float() * sides(windows)
        return boxes, raw.logits.float().softmax(-1)[..., :-1]

    def postprocess(self, raw: HeadOutput, keep: Postprocess) -> list[Detections]:
        """The detections of each image after NMS, in canvas pixels, by descending score."""
        boxes, scores = (x.detach() for x in self.candidates(raw))
        return [select_detections(b, s, keep) for b, s in zip(boxes, scores, strict=True)]

    def _run(self, images: Tensor, network: Callable[[Tensor], Tensor]) -> HeadOutput:
        """HeadOutput from `network`, which turns (B, 3, h, w) into outputs (B, C', rows, columns) for windows."""
        outputs, boxes, steps = [], [], []
        for level, scale in self._levels(images):
            windows = slid(level.shape[2:], self.window, self.step, level.device)  # type: ignore[arg-type]
            rows, columns = ((n - self.window) // self.step + 1 for n in level.shape[2:])
            outputs.append(network(self.preprocess(level))[..., :rows, :columns].flatten(2).mT)
            boxes.append(windows * windows.new_tensor(scale * 2))
            steps.append(windows.new_full((len(windows),), self.step * scale[0]))
        joined, places = torch.cat(outputs, 1), torch.cat(boxes)
        centers = (places[:, :2] + places[:, 2:]) / 2
        logits = len(self.metadata.names) + 1
        return HeadOutput(joined[..., :logits], joined[..., logits:], Priors(centers, torch.cat(steps), places))

    def _levels(self, images: Tensor) -> Iterator[tuple[Tensor, tuple[float, float]]]:
        """The image pyramid, down to one window, and the image pixels (x, y) for one pixel of each level.

        A side shorter than a window is padded to it, to the right and to the bottom, as letterboxes are.
        """
        height, width = (int(n) for n in images.shape[2:])  # a trace has tensors there
        most = max(0.0, math.log(max(height, width) / self.window) / math.log(self.config.scale_step))
        level = images
        for power in range(math.floor(most + 1e-9) + 1):
            h, w = (max(1, round(n / self.config.scale_step**power)) for n in (height, width))
            if power:
                level = interpolate(level.float(), (h, w), mode="bilinear")
            missing = (0, max(0, self.window - w), 0, max(0, self.window - h))
            yield pad(level, missing, value=self.metadata.preprocess.pad), (width / w, height / h)

    def _cropped(self, numbers: Tensor) -> Tensor:
        """The output of each window of `numbers`, a row of windows at a time: (B, C', rows, columns)."""
        rows = []
        for y in range(0, numbers.shape[2] - self.window + 1, self.step):
            row = numbers[:, :, y : y + self.window].unfold(3, self.window, self.step).movedim(3, 1)
            rows.append(self.network(row.flatten(0, 1)).logits.view(*row.shape[:2], -1).mT)
        return torch.stack(rows, 2)


def hardest(loss: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """A mask of the `count` highest of `loss`, of any shape, where `among` is true; the earlier of equals."""
    order = loss.masked_fill(~among, -math.inf).flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=order.device))
    return among & (rank < count).view(among.shape)


def sides(windows: Tensor) -> Tensor:
    """Width, height, width, height (..., 4) of boxes (..., 4)."""
    return (windows[..., 2:] - windows[..., :2]).repeat(*[1] * (windows.ndim - 1), 2)


def build_sliding_window(config: SlidingWindowConfig, metadata: ModelMetadata) -> SlidingWindow:
    """The backbone of `config` as a sliding window, without padding unless `config` sets it.

    Raises:
        UserError: an unknown name, one that needs its padding, or a window that the network cannot take.
    """
    outputs = len(metadata.names) + 1 + 4 * config.regress
    padding = "valid" if config.padding == "auto" else config.padding
    made = parts(config.backbone, config.in_channels, padding)
    try:
        if config.output_stride:
            made = shortened(made, config.output_stride, config.window, config.hidden or [HIDDEN])
        network = Network(made, outputs)
        network.drop_aux()
        return SlidingWindow(config, metadata, convolutional(network, config.window))
    except ValueError as error:
        raise UserError(
            f"--model.window {config.window} will not do for {config.backbone}: {error}; it was made for {made.size}"
        ) from error
