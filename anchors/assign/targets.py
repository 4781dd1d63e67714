"""Inputs and outputs of assigners, and the steps they share.

Axes: B batch, A priors, C classes, M objects padded over a batch; G objects of the whole batch, P pairs of an object
and a prior. Working on pairs keeps the memory to what can match at all.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from anchors.boxes import iou_aligned
from anchors.grid import Priors

NONE, IGNORE = -1, -2


class PaddedTargets(NamedTuple):
    """The targets of a batch, padded.

    boxes (B, M, 4) xyxy px, or oriented (B, M, 5); labels (B, M) int64; valid and crowd (B, M) bool.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    crowd: Tensor


class Assignment(NamedTuple):
    """The assignment of priors to objects.

    Attributes:
        index: (B, A) int64: the object (0..M-1) that a prior is assigned to, -1 none, -2 ignored.
        weight: (B, A): soft target, 0..1.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    weight: Tensor


def pad_targets(targets: Sequence[tuple[Tensor, Tensor, Tensor]]) -> PaddedTargets:
    """Pads the (boxes (N, 4) or (N, 5), labels (N,), crowd (N,)) of each image to the longest."""
    if not targets:
        nothing = torch.zeros(0, 0, dtype=torch.bool)
        return PaddedTargets(torch.zeros(0, 0, 4), nothing.long(), nothing, nothing)
    boxes, labels, crowd = [
        torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True) for column in zip(*targets, strict=True)
    ]
    counts = torch.tensor([len(b) for b, _, _ in targets], device=boxes.device)
    valid = torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]
    return PaddedTargets(boxes, labels.long(), valid, crowd.bool())


class Objects(NamedTuple):
    """The objects to assign priors to, unpadded: image and slot (G,) say where in the batch each stands."""

    image: Tensor
    slot: Tensor
    boxes: Tensor
    labels: Tensor


def objects(targets: PaddedTargets) -> Objects:
    """The valid objects that are no crowd."""
    image, slot = (targets.valid & ~targets.crowd).nonzero(as_tuple=True)
    return Objects(image, slot, targets.boxes[image, slot], targets.labels[image, slot])


class Pairs(NamedTuple):
    """Objects and priors that may match: object (P,) in 0..G-1, ascending; key (P,), the prior's place in B * A."""

    object: Tensor
    key: Tensor


def pairs_of(match: Tensor, found: Objects) -> Pairs:
    """List the object-prior pairs of a match.

    Args:
        match: whether object and prior may match, (G, A) bool.
        found: the G objects.
    """
    row, prior = match.nonzero(as_tuple=True)
    return Pairs(row, found.image.index_select(0, row) * match.shape[1] + prior)


def paired(
    pairs: Pairs,
    found: Objects,
    scores: Tensor,
    boxes: Tensor,
    overlap_of: Callable[[Tensor, Tensor], Tensor] = iou_aligned,
) -> tuple[Tensor, Tensor]:
    """Look up what the network predicts for each pair.

    Args:
        pairs: P pairs of object and prior.
        found: the objects.
        scores: predicted scores (B, A, C).
        boxes: predicted boxes (B, A, 4), or oriented (B, A, 5).
        overlap_of: the overlap of boxes one by one.

    Returns:
        The predicted score (P,) of the object's class, and the overlap (P,) of object and predicted box.
    """
    # index_select on flattened tensors is several times faster than indexing by image and prior
    predicted = boxes.reshape(-1, boxes.shape[-1]).index_select(0, pairs.key)
    overlap = overlap_of(found.boxes.index_select(0, pairs.object), predicted)
    entry = pairs.key * scores.shape[2] + found.labels.index_select(0, pairs.object)
    return scores.reshape(-1).index_select(0, entry).to(overlap.dtype), overlap


def centered(centers: Tensor, boxes: Tensor, least: Tensor | None = None) -> Tensor:
    """Find the centres inside each box.

    Args:
        centers: x, y of the priors, (A, 2).
        boxes: boxes (G, 4) xyxy; their borders belong to them.
        least: side that a smaller side of a box counts as.

    Returns:
        (G, A) bool.
    """
    if least is not None:
        low, high = boxes.chunk(2, -1)
        center, half = (low + high) / 2, (high - low).clamp_min(least) / 2
        boxes = torch.cat((center - half, center + half), -1)
    x, y = centers.T.contiguous()
    x1, y1, x2, y2 = boxes.T.contiguous()[..., None]
    inside: Tensor = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
    return inside


def best(pairs: Pairs, value: Tensor, count: int, k: int | Tensor) -> Tensor:
    """Choose the pairs with the highest values of each object.

    Args:
        pairs: P pairs, by ascending object.
        value: their values (P,).
        count: number of objects.
        k: how many pairs an object gets: one number, or one for each object (count,).

    Returns:
        Positions of the chosen pairs in `pairs`; for k = 1 the earliest among equals.
    """
    lengths = torch.bincount(pairs.object, minlength=count)
    starts = lengths.cumsum(0) - lengths
    limits = lengths.clamp(max=k)
    most, widest = (int(x.max()) if count else 0 for x in (limits, lengths))
    table = value.new_full((count, widest), -torch.inf)
    table[pairs.object, torch.arange(len(value), device=value.device) - starts[pairs.object]] = value
    top = table.max(1, keepdim=True).indices if most == 1 else table.topk(most, 1).indices
    top = top + starts[:, None]
    return top[torch.arange(most, device=value.device) < limits[:, None]]


def settle(
    pairs: Pairs, chosen: Tensor | slice, quality: Tensor, found: Objects, shape: torch.Size
) -> tuple[Tensor, Tensor]:
    """Give each prior that several objects compete for to the pair of highest quality, the earlier object among equals.

    Args:
        pairs: P pairs of object and prior.
        chosen: the pairs that compete, as positions or a slice.
        quality: quality of each pair (P,).
        found: the objects.
        shape: (B, A).

    Returns:
        index (B, A) as in Assignment, and the mask of the pairs that won.
    """
    owner_of, key, quality = pairs.object[chosen], pairs.key[chosen], quality[chosen]
    top = quality.new_full((shape.numel(),), -torch.inf).scatter_reduce(0, key, quality, "amax")
    unclaimed = len(found.slot)
    claim = torch.where(quality == top[key], owner_of, unclaimed)
    owner = claim.new_full(top.shape, unclaimed).scatter_reduce(0, key, claim, "amin")
    slot = torch.cat((found.slot, found.slot.new_tensor([NONE])))
    return slot[owner].view(shape), owner[key] == owner_of


def ignore_crowd(
    index: Tensor, priors: Priors, targets: PaddedTargets, inside: Callable[..., Tensor] = centered
) -> Tensor:
    """Set unassigned priors whose centre lies in a crowd region to ignored.

    Args:
        index: assigned objects (B, A), as in Assignment.
        priors: the A priors.
        targets: the padded targets of the batch.
        inside: finds the centres inside each box.

    Returns:
        The new index (B, A).
    """
    image, slot = (targets.valid & targets.crowd).nonzero(as_tuple=True)
    if not len(image):
        return index
    inside_crowd = inside(priors.centers, targets.boxes[image, slot])
    covered = torch.zeros_like(index, dtype=torch.int64).index_add(0, image, inside_crowd.long()) > 0
    return torch.where(covered & (index == NONE), IGNORE, index)
