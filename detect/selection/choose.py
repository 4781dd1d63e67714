"""The greedy choice of images by the weighted sum of criteria; near duplicates of what is chosen are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from detect.data_check.images import Seen, near_pairs, same_files
from detect.errors import UserError
from detect.registry import REGISTRIES
from detect.selection.base import Criterion


class Part(NamedTuple):
    """What a criterion says of an image: its value, that on a scale from 0 to 1, and the reason in words."""

    value: float
    share: float
    text: str


class Choice(NamedTuple):
    """A chosen image: its index, the weighted mean of the criteria, and their parts, by contribution."""

    image: int
    score: float
    parts: dict[str, Part]


class LeftOut(NamedTuple):
    """An image that is almost the same as `twin`, which is labelled or chosen."""

    image: int
    twin: str
    labelled: bool


def parse_criteria(given: Sequence[str]) -> dict[str, float]:
    """The weight of each criterion, from texts such as "uncertainty=1"; a name alone has the weight 1.

    Raises:
        UserError: a criterion is unknown or named twice, or a weight is no number above 0.
    """
    weights = dict[str, float]()
    for one in given:
        name, equals, text = one.partition("=")
        REGISTRIES["criterion"][name]
        try:
            weight = float(text) if equals else 1.0
        except ValueError:
            weight = -1.0
        if not 0 < weight < float("inf"):
            raise UserError(f"--criteria {one}: {text!r} is no weight: write {name}=1, or a larger or smaller number")
        if name.lower() in weights:
            raise UserError(f"--criteria names {name} twice: give it once, with one weight")
        weights[name.lower()] = weight
    if not weights:
        raise UserError(f"--criteria is empty: name one of {', '.join(REGISTRIES['criterion'])}")
    return weights


def choose(
    names: Sequence[str],
    criteria: Mapping[str, Criterion],
    weights: Mapping[str, float],
    budget: int,
    twins: Mapping[int, Sequence[int]],
    known: Mapping[int, str],
) -> tuple[list[Choice], list[LeftOut]]:
    """Choose images one after the other, each time the one with the highest weighted mean of the criteria.

    Args:
        names: of the images.
        criteria: by name; they see every choice.
        weights: of the criteria, by name.
        budget: how many images to choose; fewer where no more are left.
        twins: for an image those that are almost the same.
        known: the images that are almost the same as a labelled one, with its name.

    Returns:
        The choices, best first, of equal ones that which comes first in `names`; and the images left out.
    """
    free = np.ones(len(names), bool)
    free[list(known)] = False
    left_out = [LeftOut(i, name, True) for i, name in sorted(known.items())]
    fixed = {name: criteria[name].shares() for name in weights}
    total, choices = sum(weights.values()), list[Choice]()
    while free.any() and len(choices) < budget:
        shares = {name: fixed[name] if _is_fixed(criteria[name]) else criteria[name].shares() for name in weights}
        score = sum((weights[name] * shares[name] for name in weights), np.zeros(len(names))) / total
        image = int(np.where(free, score, -np.inf).argmax())
        order = sorted(weights, key=lambda name: -weights[name] * shares[name][image])
        parts = {
            name: Part(float(criteria[name].values[image]), float(shares[name][image]), criteria[name].reason(image))
            for name in order
        }
        choices.append(Choice(image, float(score[image]), parts))
        free[image] = False
        for other in twins.get(image, ()):
            if free[other]:
                free[other] = False
                left_out.append(LeftOut(other, names[image], False))
        for one in criteria.values():
            one.choose(image)
    return choices, left_out


def _is_fixed(criterion: Criterion) -> bool:
    """Whether a choice changes nothing for the criterion."""
    return type(criterion).choose is Criterion.choose


def duplicates(pool: Sequence[Seen], labelled: Sequence[Seen]) -> tuple[dict[int, list[int]], dict[int, str]]:
    """Which images are the same or almost the same.

    Args:
        pool: the unlabelled images.
        labelled: the labelled ones.

    Returns:
        For an unlabelled image the other unlabelled ones that are like it; for one that is like a labelled image, the
        name of that.
    """
    every = [*labelled, *pool]
    pairs = [pair for group in same_files(every) for pair in combinations(group, 2)]
    pairs += [(i, j) for i, others in near_pairs(every) for j in others.tolist()]
    twins, known, first = dict[int, list[int]](), dict[int, str](), len(labelled)
    for i, j in sorted(pairs):
        if j < first:
            continue
        if i < first:
            known.setdefault(j - first, labelled[i].path.name)
        else:
            twins.setdefault(i - first, []).append(j - first)
            twins.setdefault(j - first, []).append(i - first)
    return twins, known
