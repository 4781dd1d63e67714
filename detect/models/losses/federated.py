"""Which classes count as absent where, for losses of class scores: federated images were not checked for all classes.

Axes: B batch, P points or predictions of an image, C classes, R regions of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detect.types import Target


def complete_at(points: Tensor, targets: Sequence[Target]) -> Tensor | None:
    """The classes of which every object is annotated, at points of the images of a batch.

    Args:
        points: (P, 2) x, y of all images, or (B, P, 2) of each.
        targets: the B targets.

    Returns:
        (B, P, C) bool, false where a class that no annotation shows may be there all the same: in a region of the
        target whose image was not checked for it. None where every target is complete.
    """
    if all(target.complete is None for target in targets):
        return None
    found = []
    for n, target in enumerate(targets):
        at = points if points.ndim == 2 else points[n]
        assert target.complete is not None and target.complete_in is not None  # datasets are federated or not
        complete, regions = target.complete.to(at.device), target.complete_in.to(at.device)
        inside = ((at[:, None] >= regions[:, :2]) & (at[:, None] <= regions[:, 2:])).all(-1)  # (P, R)
        found.append(inside.float() @ (~complete).float() == 0)
    return torch.stack(found)


def known(used: Tensor, target: Tensor, complete: Tensor) -> Tensor:
    """The class scores that count: those of used predictions (…) whose class is in the target, or known to be absent.

    Args:
        used: (…) bool.
        target: (…, C) soft targets.
        complete: (…, C) as `complete_at` gives it.
    """
    return used[..., None] & (complete | (target > 0))


def without_unknown(logits: Tensor, labels: Tensor, complete: Tensor | None) -> Tensor:
    """Logits for a softmax, -inf for classes that are not known to be absent, so that they are no negatives.

    Args:
        logits: (…, C + 1), the last for background.
        labels: (…) the class of each, which stays, as background does.
        complete: (…, C) as `complete_at` gives it; None: all logits stay.
    """
    if complete is None:
        return logits
    kept = torch.cat([complete, torch.ones_like(complete[..., :1])], -1)
    return logits.masked_fill(~kept.scatter(-1, labels[..., None], True), -torch.inf)
