"""Evaluation of oriented boxes by others' means: pycocotools and DOTA's rules as loops, over Shapely's IoU."""

import contextlib
import io
from collections import defaultdict

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from shapely.geometry import Polygon


def polygon(values):
    return Polygon(np.reshape(values, (4, 2)))


class RotatedEval(COCOeval):
    """COCOeval over the corners of `segmentation`; a crowd region's overlap is the share of the detection in it."""

    def computeIoU(self, image, category):
        truth, found = self._gts[image, category], self._dts[image, category]
        if not truth or not found:
            return []
        order = np.argsort([-one["score"] for one in found], kind="mergesort")[: self.params.maxDets[-1]]
        values = np.zeros((len(order), len(truth)))
        for row, index in enumerate(order):
            own = polygon(found[index]["segmentation"][0])
            for column, one in enumerate(truth):
                other = polygon(one["segmentation"][0])
                whole = own.area if one["iscrowd"] else own.union(other).area
                values[row, column] = own.intersection(other).area / whole
        return values


def coco_reference(truth, results):
    """The twelve numbers and the arrays, for detections with `poly`."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth | {
            "annotations": [one | {"area": polygon(one["segmentation"][0]).area} for one in truth["annotations"]]
        }
        gt.createIndex()
        dt = COCO()
        dt.dataset = {**truth, "annotations": []}
        for number, one in enumerate(results, 1):
            more = {"id": number, "iscrowd": 0, "area": polygon(one["poly"]).area, "segmentation": [one["poly"]]}
            dt.dataset["annotations"].append(one | more)
        dt.createIndex()
        evaluator = RotatedEval(gt, dt, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats, evaluator.eval


def dota_reference(truth, results, category):
    """AP50 of one class by VOC 2007's eleven points and by area."""
    objects = defaultdict(list)
    for one in truth["annotations"]:
        if one["category_id"] == category:
            difficult = one["iscrowd"] or one.get("difficult", False)
            objects[one["image_id"]].append([polygon(one["segmentation"][0]), difficult, False])
    count = sum(not difficult for some in objects.values() for _, difficult, _ in some)
    right, wrong, curve = 0, 0, []
    found = [one for one in results if one["category_id"] == category]
    for one in sorted(found, key=lambda one: (-one["score"], one["image_id"])):
        own, best, most = polygon(one["poly"]), None, 0.5
        for candidate in objects[one["image_id"]]:
            value = own.intersection(candidate[0]).area / own.union(candidate[0]).area
            if value > most:
                best, most = candidate, value
        if best is None or (best[2] and not best[1]):
            wrong += 1
        elif not best[1]:
            right, best[2] = right + 1, True
        if right + wrong:
            curve.append((right / count, right / (right + wrong)))
    eleven = sum(max([p for r, p in curve if r >= level], default=0) for level in np.arange(0, 1.1, 0.1)) / 11
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(curve):
        area += (recall - before) * max(p for _, p in curve[i:])
        before = recall
    return eleven, area
