"""Which keypoints change places in a mirror image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detect.errors import UserError


def mirror_swap(keypoints: Sequence[str], pairs: Sequence[Sequence[int]] | None) -> Tensor | None:
    """Return the permutation (K,) that swaps each pair; None without keypoints. UserError: pairs missing or wrong."""
    if not keypoints:
        return None
    if pairs is None:
        raise UserError(
            "mirroring needs to know which keypoints swap: name them left_…/right_… in the annotations, "
            "or give augment.flip_pairs, or set augment.flip to 0"
        )
    swap = torch.arange(len(keypoints))
    used = sorted(k for pair in pairs for k in pair)
    if any(len(pair) != 2 for pair in pairs) or len(set(used)) != len(used):
        raise UserError(f"augment.flip_pairs must hold pairs, each keypoint at most once: {[list(p) for p in pairs]}")
    if used and not 0 <= used[0] <= used[-1] < len(keypoints):
        raise UserError(f"augment.flip_pairs names keypoint {used[-1]}, but there are {len(keypoints)} (from 0)")
    for a, b in pairs:
        swap[a], swap[b] = b, a
    return swap
