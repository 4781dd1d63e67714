"""Fine-tuning by name: outputs of classes and keypoints are copied to those of the same name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from detect.models.base import Model, ModelMetadata
from detect.types import NamedRows
from detect.utils.names import find


def places(metadata: ModelMetadata, theirs: ModelMetadata, of: str) -> list[int]:
    """The index of each class or keypoint of a model in the list of another one, -1 for none.

    Args:
        metadata: of the model.
        theirs: of the other model.
        of: the list of the metadata, "names" or "keypoint_names".

    Raises:
        UserError: names of the other metadata are ambiguous.
    """
    mine, known = getattr(metadata, of), getattr(theirs, of)
    if mine == known:
        return list(range(len(mine)))
    ids = [one.category_ids if of == "names" else list(range(len(getattr(one, of)))) for one in (metadata, theirs)]
    return find(mine, ids[0], known, ids[1], "the weights file")


def named_tensors(model: Model) -> dict[str, NamedRows]:
    """The tensors of a model whose rows belong to classes or keypoints: weights and biases of such layers."""
    layouts = {id(layer): rows for layer, rows in model.named_rows()}
    modules = [(name, module) for name, module in model.named_modules() if id(module) in layouts]
    return {f"{n}.{t}": layouts[id(m)] for n, m in modules for t, _ in m.named_parameters(recurse=False)}


def renamed(model: Model, tensors: Mapping[str, Tensor], theirs: ModelMetadata) -> dict[str, Tensor | None]:
    """The tensors of `named_tensors`, with rows copied by name from those of another model.

    Args:
        model: rows of names that the other model lacks are its own.
        tensors: of the other model.
        theirs: metadata of the other model.

    Returns:
        Tensors by name; None for one from which nothing can be copied: another layer's, or one without any of the
        names.
    """
    mine, made = model.state_dict(), dict[str, Tensor | None]()
    for name, layout in named_tensors(model).items():
        if name in tensors:
            place = places(model.metadata, theirs, layout.of)
            made[name] = _placed(mine[name], tensors[name], layout, place, len(getattr(theirs, layout.of)))
    return made


def _placed(mine: Tensor, theirs: Tensor, layout: NamedRows, place: list[int], count: int) -> Tensor | None:
    """`mine` with the rows of each name from index `place` among the `count` names of `theirs`."""
    if mine.shape[1:] != theirs.shape[1:]:
        return None
    start, new = _grouped(mine, layout, len(place)), _grouped(theirs, layout, count)
    if start is None or new is None or start[2].shape != new[2].shape:
        return None
    source = torch.tensor(place, device=mine.device)
    known = source >= 0
    before, named, behind = (part.to(mine) for part in new)
    if not (known.any() or before.shape[1] or behind.shape[1]):
        return None
    merged = start[1].clone()
    merged[:, known] = named[:, source[known]]
    return torch.cat([before, merged.flatten(1, 2), behind], 1).flatten(0, 1)


def _grouped(tensor: Tensor, layout: NamedRows, count: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """The rows before, of and behind `count` names: (groups, rows, ...), of names (groups, count, each, ...).

    Returns:
        None for a tensor that does not have that layout.
    """
    width, rest = divmod(len(tensor), layout.groups)
    behind = width - layout.before - count * layout.each
    if rest or behind < 0:
        return None
    grouped = tensor.unflatten(0, (layout.groups, width))
    before, named, after = grouped.split([layout.before, count * layout.each, behind], 1)
    return before, named.unflatten(1, (count, layout.each)), after
