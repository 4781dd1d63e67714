"""pycocotools, the reference of evaluation, as a function."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def reference(truth: dict, results: list[dict]) -> tuple[np.ndarray, dict]:
    """pycocotools' twelve numbers and its arrays; it cannot load an empty list of results, but can evaluate one."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        if results:
            dt = gt.loadRes(results)
        else:
            dt = COCO()
            dt.dataset = {**truth, "annotations": []}
            dt.createIndex()
        judge = COCOeval(gt, dt, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats, judge.eval
