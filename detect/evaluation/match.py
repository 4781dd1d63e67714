"""Whether weights can be judged by a store, and which of its classes theirs are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from detect.data.store import Annotations
from detect.errors import UserError

if TYPE_CHECKING:
    from detect.models.base import Card


def by_name(card: Card, store: Annotations) -> Tensor:
    """For each class of the weights its label in the store (C,), by name; -1 for classes that the store lacks.

    Tells what is lacking on either side. Raises UserError where no class is in both.
    """
    known = {name: label for label, name in enumerate(store.names)}
    labels = [known.get(name, -1) for name in card.names]
    lost = [name for name, label in zip(card.names, labels, strict=True) if label < 0]
    if len(lost) == len(labels):
        raise UserError(f"{store.path} has none of the classes that the weights know: {', '.join(card.names[:10])}")
    if lost:
        print(f"classes that {store.path} lacks, not counted: {', '.join(lost)}", file=sys.stderr)
    missed = sorted(set(known) - set(card.names))
    if missed:
        print(f"classes that the weights do not know, always wrong: {', '.join(missed)}", file=sys.stderr)
    return torch.tensor(labels)


def as_coco(card: Card, store: Annotations) -> Tensor:
    """`by_name`, with a word on what pycocotools makes of an annotation's id 0."""
    if (store.ids == 0).any():
        print(f"{store.path}: annotation id 0 counts as missed, as in pycocotools: number from 1", file=sys.stderr)
    return by_name(card, store)
