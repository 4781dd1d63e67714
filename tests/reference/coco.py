"""pycocotools, the reference of evaluation, as a function."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.reference.boundary import BoundaryEval


def reference(ground_truth: dict, results: list[dict], kind: str = "bbox") -> tuple[np.ndarray, dict]:
    """pycocotools' twelve numbers and its arrays; it cannot load an empty list of results, but can evaluate one.

    `kind` is "bbox", "segm", or "boundary", which pycocotools lacks.
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
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats, evaluator.eval
