"""Which values of a tensor make a difference in an ONNX graph: eight bits need not be spent on others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Range = tuple[float, float]

ALL = (-math.inf, math.inf)
SATURATED = 8.0  # a sigmoid is within 0.0004 of 0 or 1 beyond it
# Operators that put out values of their first input, elsewhere or fewer of them; Concat does so with all inputs.
MOVING = frozenset(["Flatten", "Gather", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"])


def useful_ranges(graph: Any) -> dict[str, Range]:
    """The range of each tensor beyond which a value has the same effect as the nearest end of the range.

    An activation decides it, as ReLU does for what is below 0, even if values are moved on their way to it.

    Args:
        graph: an `onnx.GraphProto`, whose nodes are in the order in which they run.

    Returns:
        Least and greatest value by name; infinite where all values count, as those of outputs do.
    """
    from onnx import numpy_helper

    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    found = {output.name: ALL for output in graph.output}
    for node in reversed(graph.node):
        after = _union([found[name] for name in node.output if name in found])
        for i, name in enumerate(node.input):
            moved = node.op_type == "Concat" or (node.op_type in MOVING and i == 0)
            own = after if moved else _of_input(node, name, producers, constants)
            found[name] = _union([found[name], own]) if name in found else own
    return found


def results(graph: Any) -> set[str]:
    """The outputs of convolutions that lead to no further convolution, as those of a head."""
    leading = set[str]()
    for node in reversed(graph.node):
        if node.op_type == "Conv" or leading.intersection(node.output):
            leading.update(node.input)
    return {node.output[0] for node in graph.node if node.op_type == "Conv"} - leading


def _of_input(node: Any, name: str, producers: dict[str, Any], constants: dict[str, np.ndarray]) -> Range:
    """The useful range of the input `name` of a node that computes."""
    kind = node.op_type
    if kind == "Relu":
        return 0.0, math.inf
    if kind == "HardSwish":
        return -3.0, math.inf
    if kind == "Sigmoid":
        return -SATURATED, SATURATED
    if kind == "HardSigmoid":
        given = {one.name: one.f for one in node.attribute}
        slope, middle = given.get("alpha", 0.2), given.get("beta", 0.5)
        return (-middle / slope, (1 - middle) / slope) if slope > 0 else ALL
    if kind == "Clip" and name == node.input[0]:
        bounds = [constants.get(bound) for bound in [*node.input[1:], "", ""][:2]]
        least, most = (end if bound is None else float(bound) for bound, end in zip(bounds, ALL, strict=True))
        return least, most
    if kind == "Mul":  # x * sigmoid(x): nothing passes where the sigmoid is 0, and all where it is 1
        gates = [producers[other] for other in node.input if other in producers and name in producers[other].input]
        if gates and gates[0].op_type in ("Sigmoid", "HardSigmoid"):
            return _of_input(gates[0], name, producers, constants)[0], math.inf
    return ALL


def _union(ranges: list[Range]) -> Range:
    """The least range that holds all of the given ones; all values where there are none."""
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else ALL
