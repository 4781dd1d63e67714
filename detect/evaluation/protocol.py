"""What the COCO protocol leaves open to choose: IoU thresholds, area ranges, limits of detections, sigmas of OKS.

The names are those of pycocotools' parameters: iouThrs, areaRng, maxDets, kpt_oks_sigmas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LARGEST = 1e10  # the area without a limit, as pycocotools has it
Number = tuple[str, slice, int, int]  # array, IoU thresholds (indices), size (index), limit of detections (index)


@dataclass(frozen=True)
class Protocol:
    """The parameters of an evaluation; the defaults are COCO's.

    Args:
        ious: IoU (or OKS) thresholds, ascending.
        edges: areas in pixels that part the sizes, ascending; no edge: all sizes are one.
        limits: the best detections of an image and class that count, ascending; AP is of the last.
        sigmas: of the keypoints, for OKS. None: those of `detect.models.keypoints`.
    """

    ious: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
    edges: tuple[float, ...] = (32.0**2, 96.0**2)
    limits: tuple[int, ...] = (1, 10, 100)
    sigmas: tuple[float, ...] | None = None

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Least and greatest area of all objects, and of each size."""
        parts = list(pairwise((0.0, *self.edges, LARGEST))) if self.edges else []
        return [(0.0, LARGEST), *parts]

    @property
    def sizes(self) -> list[str]:
        """What the names of numbers end in for each size: s, m and l where there are three."""
        parts = self.ranges[1:]
        return ["s", "m", "l"] if len(parts) == 3 else [f"_size{k}" for k in range(1, len(parts) + 1)]

    def numbers(self) -> dict[str, Number]:
        """Where each number is found in the arrays of precision and recall: COCO's twelve, or those like them."""
        last, every = len(self.limits) - 1, slice(None)
        sizes = dict(enumerate(self.sizes, 1))
        return {
            "AP": ("precision", every, 0, last),
            **{f"AP{100 * iou:.0f}": ("precision", self.at(iou), 0, last) for iou in (0.5, 0.75)},
            **{f"AP{name}": ("precision", every, s, last) for s, name in sizes.items()},
            **{f"AR{limit}": ("recall", every, 0, m) for m, limit in enumerate(self.limits)},
            **{f"AR{name}": ("recall", every, s, last) for s, name in sizes.items()},
        }

    @property
    def keypoint_ranges(self) -> list[tuple[float, float]]:
        """`ranges` without the smallest size, of which COCO annotates no keypoints."""
        return [self.ranges[0], *self.ranges[2:]]

    @property
    def keypoint_limit(self) -> int:
        """The objects of an image whose keypoints count: COCO's 20, or the last of `limits` where these are others."""
        return 20 if self.limits == Protocol.limits else self.limits[-1]

    def keypoint_numbers(self) -> dict[str, Number]:
        """The numbers of keypoints, which have no small objects and one limit."""
        found: dict[str, Number] = {}
        for kind, array in (("AP", "precision"), ("AR", "recall")):
            found[f"OKS_{kind}"] = (array, slice(None), 0, 0)
            found |= {f"OKS_{kind}{100 * iou:.0f}": (array, self.at(iou), 0, 0) for iou in (0.5, 0.75)}
            found |= {f"OKS_{kind}{name}": (array, slice(None), s, 0) for s, name in enumerate(self.sizes[1:], 1)}
        return found

    def at(self, iou: float) -> slice:
        """The place of an IoU threshold; an empty slice where it is none."""
        near = np.flatnonzero(np.isclose(self.ious, iou, rtol=0, atol=1e-9))
        return slice(int(near[0]), int(near[0]) + 1) if len(near) else slice(0, 0)


COCO = Protocol()
NUMBERS: Mapping[str, Number] = COCO.numbers()
