"""pycocotools, the reference of evaluation, as a function."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.reference.boundary import BoundaryEval


def reference(
    ground_truth: dict, results: list[dict], kind: str = "bbox", **parameters: object
) -> tuple[np.ndarray, dict]:
    """pycocotools' numbers and its arrays; it cannot load an empty list of results, but can evaluate one.

    `kind` is "bbox", "segm", "keypoints", or "boundary", which pycocotools lacks; `parameters` are set on its `params`.
    With such the numbers, which it makes of COCO's parameters alone, are missing.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = ground_truth
        gt.createIndex()
        if results:
            dt = gt.loadRes(results)
        else:
            dt = COCO()
            dt.dataset = {**ground_truth, "annotations": []}
            dt.createIndex()
        evaluator = BoundaryEval(gt, dt, "segm") if kind == "boundary" else COCOeval(gt, dt, kind)
        for name, value in parameters.items():
            setattr(evaluator.params, name, value)
        evaluator.evaluate()
        evaluator.accumulate()
        if not parameters:
            evaluator.summarize()
    return np.array(evaluator.stats), evaluator.eval
