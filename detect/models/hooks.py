"""Hooks that read the outputs of named layers while a network runs."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Self

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from detect.errors import UserError, unknown

_ABOVE = ("", "stages.", "network.", "network.stages.", "backbone.", "backbone.stages.")  # may be left out


def find_layer(net: nn.Module, name: str) -> str:
    """The full name of a layer.

    Args:
        net: the network.
        name: a name as `detect info` prints it, or the number of a stage.

    Raises:
        UserError: there is no such layer; the nearest name is suggested.
    """
    names = [n for n, _ in net.named_modules(remove_duplicate=False) if n]  # a graph may hold a layer in several places
    found = next((above + name for above in _ABOVE if name and above + name in names), None)
    if found is None:
        few = [n for n in names if n.count(".") < 2 or n.rpartition(".")[0].endswith("stages")]
        raise unknown("layer", name, get_close_matches(name, names, 1) or few)
    return found


class LayerOutputs:
    """While entered, `outputs` has the output of each of the named layers, by name; gradients reach it.

    Later layers work on a copy, because some layers overwrite their input.
    """

    def __init__(self, net: nn.Module, names: Iterable[str]) -> None:
        self.net, self.names, self.outputs = net, list(names), dict[str, Any]()

    def __enter__(self) -> Self:
        def tap(name: str) -> Any:
            def keep(layer: nn.Module, given: Any, output: Any) -> Any:
                self.outputs[name] = output
                return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, output)

            return keep

        self.handles = [self.net.get_submodule(name).register_forward_hook(tap(name)) for name in self.names]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def maps(self, name: str) -> list[Tensor]:
        """The output of layer `name` as feature maps (B, C, H, W) of more than one cell; empty for anything else."""
        given = self._given(name)
        return given if all(x.ndim == 4 and x[0, 0].numel() > 1 for x in given) else []

    def map(self, name: str) -> Tensor:
        """The output of layer `name`, one feature map (B, C, H, W).

        Raises:
            UserError: the output is anything else.
        """
        given = self._given(name)
        if len(given) != 1 or given[0].ndim != 4:
            form = f"{tuple(given[0].shape[1:])}" if len(given) == 1 else f"{len(given)} tensors"
            raise UserError(f"layer {name} has the output {form}, which is no feature map: choose another")
        return given[0]

    def _given(self, name: str) -> list[Tensor]:
        return [x for x in tree_leaves(self.outputs.get(name)) if isinstance(x, Tensor)]
