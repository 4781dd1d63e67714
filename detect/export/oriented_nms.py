"""Non-maximum suppression of oriented boxes as ONNX operators: `detect export --nms` for the task obb.

ONNX has no operator for it. The best MOST candidates of each image are compared in pairs, by the exact IoU of
`anchors.oriented`, and greedy suppression is the fixed point of one matrix product: a candidate is kept if no kept one
of a higher score overlaps it too much. From all kept, the n-th product has the first n right, so the loop, which ends
when nothing changes, gives what the plain loop over candidates gives; few products are needed in practice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from anchors.oriented import clipped_iou, columns

MOST = 1024  # candidates of an image; `select_detections` takes 4096, and the matrices grow with the square

# The candidates of each image, by descending score; those that do not pass have a score of -1.
_CANDIDATES = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
candidates (float[batch, A, 5] oriented, float[batch, A, C] scores)
    => (float[batch, K, 5] box, float[batch, K] score, float[batch, K] label)
<float[{thresholds}] least = {{{least}}}, float none = {{-1}}, int64[2] rows = {{0, -1}}, int64[1] one = {{1}},
 int64[1] two = {{2}}, int64[1] most = {{{most}}}, int64 first = {{0}}>
{{
    passes = Greater (scores, least)
    left = Where (passes, scores, none)
    flat = Reshape (left, rows)
    passing = Reshape (passes, rows)
    counted = Cast <to = 7> (passing)
    counts = ReduceSum <keepdims = 0> (counted, one)
    count = ReduceMax <keepdims = 0> (counts)
    counts_list = Unsqueeze (count, first)
    some = Max (counts_list, one)
    k = Min (some, most)
    score, place = TopK (flat, k)
    classes = Shape <start = 2> (scores)
    prior = Div (place, classes)
    whole = Mul (prior, classes)
    class = Sub (place, whole)
    label = Cast <to = 1> (class)
    index = Unsqueeze (prior, two)
    box = GatherND <batch_dims = 1> (oriented, index)
}}
"""
# The prefix of names is written out inside the loop, where `compose` does not add it.
_SUPPRESSION = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
suppression (float[batch, K, 5] box, float[batch, K] score, float[batch, K] label, float[batch, K, K] overlap)
    => (float[N, 8] found)
<float most_overlap = {{{iou}}}, int64[1] limit = {{{most}}}, float none = {{0}}, float half = {{0.5}},
 int64 zero = {{0}}, int64 step = {{1}}, int64[1] one = {{1}}, int64[1] two = {{2}}, bool true = {{1}}>
{{
    above = Greater (overlap, most_overlap)
    row_label = Unsqueeze (label, two)
    column_label = Unsqueeze (label, one)
    same = Equal (row_label, column_label)
    number = Shape <start = 1> (label)
    end = Squeeze (number)
    ranks = Range (zero, end, step)
    better_rank = Unsqueeze (ranks, one)
    before = Less (better_rank, ranks)
    alike = And (above, same)
    strikes = And (alike, before)
    strike = Cast <to = 1> (strikes)
    passes = Greater (score, none)
    start = Cast <to = 1> (passes)
    valid = Unsqueeze (start, one)
    last = Loop (end, true, valid) <body = body (int64 turn, bool go, float[batch, o, K] alive)
        => (bool changed, float[batch, o, K] next) {{
        struck = MatMul (alive, nms_strike)
        free = Less (struck, nms_half)
        freed = Cast <to = 1> (free)
        next = Mul (freed, nms_valid)
        same_as_before = Equal (next, alive)
        different = Not (same_as_before)
        difference = Cast <to = 6> (different)
        many = ReduceMax <keepdims = 0> (difference)
        changed = Cast <to = 9> (many)
    }}>
    flat_last = Squeeze (last, one)
    alive_number = Cast <to = 7> (flat_last)
    alive_bool = Cast <to = 9> (flat_last)
    place = CumSum (alive_number, step)
    near = LessOrEqual (place, limit)
    kept = And (alive_bool, near)
    found_at = NonZero (kept)
    index = Transpose (found_at)
    found_box = GatherND (box, index)
    found_score = GatherND (score, index)
    found_label = GatherND (label, index)
    image, rank = Split <axis = 1, num_outputs = 2> (index)
    image_number = Cast <to = 1> (image)
    score_column = Unsqueeze (found_score, one)
    label_column = Unsqueeze (found_label, one)
    found = Concat <axis = 1> (image_number, found_box, score_column, label_column)
}}
"""


class Overlaps(nn.Module):
    """The IoU (B, K, K) of the oriented boxes (B, K, 5) of each image."""

    def forward(self, boxes: Tensor) -> Tensor:
        batch, count = boxes.shape[:2]
        sides = columns(boxes.reshape(-1, 5)).reshape(6, batch, count)
        pairs = [x.expand(6, batch, count, count) for x in (sides[..., None], sides[:, :, None])]
        return clipped_iou(*pairs).float()


def with_oriented_suppression(model: Any, about: Any) -> Any:
    """The ONNX model with one output `nms_found` (N, 8) instead of oriented boxes and scores.

    Each row is image, cx, cy, w, h, angle, score, label; those of an image by descending score.
    """
    from onnx import compose, parser

    least = about.postprocess().class_scores or [about.conf]
    versions = {"ir": model.ir_version, "opset": next(one.version for one in model.opset_import if not one.domain)}
    options = {"thresholds": len(least), "least": ", ".join(map(str, least)), "most": MOST}
    first = parser.parse_model(_CANDIDATES.format(**versions, **options))
    last = parser.parse_model(_SUPPRESSION.format(**versions, iou=about.iou, most=about.max_det))
    candidates, overlaps, suppression = (
        compose.add_prefix(part, f"{name}_")
        for name, part in (("candidates", first), ("overlaps", _overlaps_graph(model.ir_version)), ("nms", last))
    )
    rows = [f"candidates_{name}" for name in ("box", "score", "label")]
    model = compose.merge_models(model, candidates, io_map=[(name, f"candidates_{name}") for name in about.outputs])
    matrix = [(rows[0], "overlaps_boxes")]
    model = compose.merge_models(model, overlaps, io_map=matrix, outputs=[*rows, "overlaps_overlap"])
    names = ("box", "score", "label", "overlap")
    taken = zip([*rows, "overlaps_overlap"], (f"nms_{name}" for name in names), strict=True)
    return compose.merge_models(model, suppression, io_map=list(taken))


def _overlaps_graph(ir_version: int) -> Any:
    """`Overlaps` as an ONNX model with `boxes` and `overlap`, for any number of images and candidates."""
    from torch.export import Dim

    from detect.export.writers import OPSET, quiet

    shape = {0: Dim("batch", min=1, max=4096), 1: Dim("count", min=1, max=MOST)}
    with quiet():
        program = torch.onnx.export(
            Overlaps().eval(),
            (torch.rand(2, 7, 5),),
            dynamo=True,
            input_names=["boxes"],
            output_names=["overlap"],
            dynamic_shapes={"boxes": shape},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    graph.ir_version = ir_version
    return graph
