"""Orders of an epoch other than a shuffle: rare classes more often, classes equally often, identities in groups."""

from __future__ import annotations

from functools import partial

import numpy as np

from detect.data.annotations import Annotations
from detect.data.rng import EpochOrder


def repeat_factors(annotations: Annotations, threshold: float) -> np.ndarray:
    """Return (I,) how often each image comes in an epoch, at least 1: repeat-factor sampling.

    A class that occurs in the share f of the images has the factor max(1, sqrt(threshold / f)). An image has the
    greatest factor of its classes, an image without objects the factor 1. Crowd regions do not count.

    Reference: Gupta et al., LVIS, 2019.
    """
    factors = np.ones(len(annotations))
    image = np.repeat(np.arange(len(annotations)), np.diff(annotations.starts))[~annotations.crowd]
    pairs = np.unique(np.stack([image, annotations.labels[~annotations.crowd]], axis=1), axis=0)
    share = np.bincount(pairs[:, 1], minlength=len(annotations.names)) / max(1, len(annotations))
    wanted = np.sqrt(threshold / np.where(share > 0, share, 1)).clip(1)
    np.maximum.at(factors, pairs[:, 0], wanted[pairs[:, 1]])
    return factors


def repeated(factors: np.ndarray, seed: int) -> EpochOrder:
    """Return the order in which image i comes factors[i] times on average.

    Every epoch has the same length, the sum of the factors, rounded. A factor between two whole numbers is met by
    systematic sampling: in each epoch the image comes the lower or the upper number of times.
    """
    length = round(float(factors.sum()))
    return EpochOrder(length, partial(_repeated, factors * (length / max(factors.sum(), 1e-12)), length), seed)


def _repeated(factors: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    images = rng.permutation(len(factors))
    ends = np.cumsum(factors[images])
    ticks = np.arange(length) + rng.random()
    chosen = images[np.searchsorted(ends, ticks, side="right").clip(max=len(images) - 1)]
    return rng.permutation(chosen)


def balanced(labels: np.ndarray, seed: int) -> EpochOrder:
    """Return the order in which every class of `labels` (N,) comes equally often, but for one sample.

    An epoch has N samples: those of large classes are left out in turns, those of small classes repeated.
    """
    return EpochOrder(len(labels), partial(_balanced, labels), seed)


def _balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    classes = rng.permutation(np.unique(labels))
    chosen = []
    for part, label in zip(np.array_split(np.arange(len(labels)), len(classes)), classes, strict=True):
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-len(part) // len(members)))]
        chosen.append(np.concatenate([np.zeros(0, np.int64), *rounds])[: len(part)])
    return rng.permutation(np.concatenate(chosen))


def grouped(labels: np.ndarray, batches: int, identities: int, each: int, rng: np.random.Generator) -> np.ndarray:
    """Return indices (batches * identities * each,) into `labels` (N,): P x K sampling.

    Each batch has `each` images of each of `identities` labels. Labels take turns, and so do the images of each;
    fewer than `each` images are repeated. In a batch all identities come once, then all once more, so that any two
    ranks that take its samples in turns both get images of one identity.
    """
    members = {label: np.flatnonzero(labels == label).tolist() for label in np.unique(labels).tolist()}
    label_queue: list[int] = []
    queues: dict[int, list[int]] = {label: [] for label in members}
    chosen = []
    for _ in range(batches):
        drawn = _next(label_queue, list(members), identities, rng)
        chosen.append(np.array([_next(queues[label], members[label], each, rng) for label in drawn]).T.ravel())
    return np.concatenate(chosen)


def _next(queue: list[int], everyone: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Take the next `count` of a queue; `everyone` joins it again, shuffled, while it is shorter."""
    while len(queue) < count:
        fresh = rng.permutation(everyone).tolist()
        queue += [one for one in fresh if one not in queue] + [one for one in fresh if one in queue]
    taken, queue[:] = queue[:count], queue[count:]
    return taken
