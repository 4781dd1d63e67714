"""Non-maximum suppression as ONNX operators behind an exported network: `detect export --nms`.

It keeps the boxes that `detect.models.yolo.select_detections` keeps, without the limit on candidates: scores above
`conf`, or above the threshold of their class where the weights have such, in each class the best of those that overlap
by more than `iou`, and the best `max_det` of an image.
"""

from __future__ import annotations

from typing import Any

from detect.export.forms import extra_axes
from detect.export.metadata import About
from detect.export.oriented_nms import with_oriented_suppression

# Rows are (image, label, prior), as the operator returns them; `place` is the rank of a row within its image.
_GRAPH = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
suppression (float[batch, A, 4] boxes, float[batch, A, C] scores{more_in}) => (float[N, D] found)
<int64[1] most = {{{most}}}, float[1] overlap = {{{iou}}}, float[1] least = {{{conf}}}, int64[1] limit = {{{most}}},
 int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[3] parts = {{1, 1, 1}}{constants}>
{{
{passing}    by_class = Transpose <perm = [0, 2, 1]> ({scores})
    rows = NonMaxSuppression (boxes, by_class, most, overlap, least)
    chosen = GatherND (by_class, rows)
    count = Shape (chosen)
    sorted, order = TopK (chosen, count)
    ranked = Gather <axis = 0> (rows, order)
    image, label, prior = Split <axis = 1> (ranked, parts)
    images = Shape <start = 0, end = 1> (boxes)
    number = Squeeze (images)
    start = Squeeze (zero)
    step = Squeeze (one)
    every = Range (start, number, step)
    same = Equal (image, every)
    owned = Cast <to = 7> (same)
    last = Squeeze (one)
    places = CumSum (owned, start)
    mine = Mul (places, owned)
    place = ReduceSum <keepdims = 0> (mine, one)
    kept = LessOrEqual (place, limit)
    whose = Concat <axis = 1> (image, prior)
    box = GatherND (boxes, whose)
    score = Unsqueeze (sorted, one)
    image_number = Cast <to = 1> (image)
    label_number = Cast <to = 1> (label)
{more}
    all = Concat <axis = 1> (image_number, box, score, label_number{more_out})
    found = Compress <axis = 0> (all, kept)
}}
"""
_EXTRA = """
    shown_{name} = GatherND ({name}, whose)
    row_{name} = Flatten <axis = 1> (shown_{name})
"""


_BY_CLASS = """    passes = Greater (scores, least_of_class)
    nothing = Sub (scores, scores)
    passing = Where (passes, scores, nothing)
"""


def with_suppression(model: Any, about: About) -> Any:
    """The ONNX model with one output `found` (N, 7 + E) instead of boxes, scores and others with a row for each box.

    Each row is image, x1, y1, x2, y2, score, label, then the E numbers of the others, such as x, y and visibility of
    each keypoint; by descending score. Outputs that all boxes share stay, behind it. Oriented boxes have rows of
    their own: see `with_oriented_suppression`.
    """
    joined = with_oriented_suppression(model, about) if "oriented" in about.outputs else _joined(model, about)
    for node in joined.graph.node:  # it has the prefix that keeps its names apart from those of the network
        node.output[:] = ["found" if name == "nms_found" else name for name in node.output]
    for output in joined.graph.output:
        output.name = output.name.removeprefix("nms_")
    joined.graph.output.sort(key=lambda output: output.name != "found")
    return joined


def _joined(model: Any, about: About) -> Any:
    from onnx import compose, parser

    extras, least = extra_axes(about), about.postprocess().class_scores
    each = ", ".join(map(str, least or ()))
    shapes = {name: "batch, A" + "".join(f", {axis}" for axis in axes) for name, axes in extras.items()}
    text = _GRAPH.format(
        ir=model.ir_version,
        opset=next(one.version for one in model.opset_import if not one.domain),
        most=about.max_det,
        iou=about.iou,
        conf=about.conf,
        constants=f", float[{len(least)}] least_of_class = {{{each}}}" if least else "",
        passing=_BY_CLASS if least else "",
        scores="passing" if least else "scores",
        more_in="".join(f", float[{shape}] {name}" for name, shape in shapes.items()),
        more="".join(_EXTRA.format(name=name) for name in extras),
        more_out="".join(f", row_{name}" for name in extras),
    )
    rows = compose.add_prefix(parser.parse_model(text), "nms_")
    return compose.merge_models(model, rows, io_map=[(name, f"nms_{name}") for name in ("boxes", "scores", *extras)])
