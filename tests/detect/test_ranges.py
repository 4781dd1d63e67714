"""Which values of a tensor the rest of an ONNX graph can tell apart."""

import math

import numpy as np
import pytest

from detect.export.ranges import results, useful_ranges

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
reference = pytest.importorskip("onnx.reference")

INF = math.inf
ACTIVATIONS = {
    "y = Relu(x)": (0, INF),
    "y = HardSwish(x)": (-3, INF),
    "y = Sigmoid(x)": (-8, 8),
    "y = HardSigmoid<alpha = 0.25, beta = 0.5>(x)": (-2, 2),
    "y = HardSigmoid(x)": (-2.5, 2.5),
    "least = Constant<value_float = 0.0>() most = Constant<value_float = 6.0>() y = Clip(x, least, most)": (-INF, INF),
    "y = Clip(x, zero, six)": (0, 6),
    "y = Clip(x, zero)": (0, INF),
    "y = Clip(x, , six)": (-INF, 6),
    "s = Sigmoid(x) y = Mul(x, s)": (-8, INF),
    "s = HardSigmoid(x) y = Mul(s, x)": (-2.5, INF),
    "s = Sigmoid(w) y = Mul(x, s)": (-INF, INF),
    "y = Add(x, w)": (-INF, INF),
    "s = Transpose(x) t = Concat<axis = 1>(s, w) y = HardSwish(t)": (-3, INF),
    "s, t = Split<axis = 0, num_outputs = 2>(x) u = Relu(s) v = HardSwish(t) y = Concat<axis = 0>(u, v)": (-3, INF),
    "s = Sigmoid(x) t = Relu(x) y = Add(s, t)": (-8, INF),
    "s = Relu(x) y = Add(s, x)": (-INF, INF),
}


def graph_of(body, inputs="float[8, 8] x, float[8, 8] w"):
    constants = "float zero = {0.0}, float six = {6.0}"
    return onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> g ({inputs}) => (float[M, N] y) <{constants}> {{ {body} }}'
    )


@pytest.mark.parametrize(("body", "expected"), ACTIVATIONS.items())
def test_values_beyond_a_useful_range_change_nothing(body, expected):
    model = graph_of(body)
    found = useful_ranges(model.graph)["x"]
    assert found == pytest.approx(expected)
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=(8, 8), scale=10).astype(np.float32) for _ in range(2))
    run = reference.ReferenceEvaluator(model)
    whole, clipped = (run.run(None, {"x": one, "w": w})[0] for one in (x, np.clip(x, *found)))
    assert clipped == pytest.approx(whole, abs=0.003)


def test_results_are_the_last_convolutions():
    model = graph_of(
        "a = Conv(x, w) b = Relu(a) c = Conv(b, w) d = Conv(b, w) e = Sigmoid(c) y = Concat<axis = 1>(e, d)",
        "float[1, 4, 2, 2] x, float[4, 4, 1, 1] w",
    )
    assert results(model.graph) == {"c", "d"}
