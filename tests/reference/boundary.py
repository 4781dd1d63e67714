"""The boundary of a mask, pixel by pixel, and pycocotools with the overlap of boundaries."""

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval


def boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels (H, W) of a mask near its outline: within 2 % of the diagonal of a pixel outside, in x and in y."""
    height, width = mask.shape
    reach = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
    found = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        rows, columns = (np.arange(at - reach, at + reach + 1) for at in (y, x))
        inside = (rows >= 0).all() and (rows < height).all() and (columns >= 0).all() and (columns < width).all()
        found[y, x] = not (inside and mask[np.ix_(rows, columns)].all())
    return found


class BoundaryEval(COCOeval):
    """The overlap is that of masks or of boundaries, whichever is less; with crowd regions that of masks."""

    def computeIoU(self, imgId, catId):
        values = super().computeIoU(imgId, catId)
        objects, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not objects or not found:
            return values
        whole = [one["segmentation"] for one in objects + found]
        for one in objects + found:
            one["segmentation"] = coco_mask.encode(np.asfortranarray(boundary(coco_mask.decode(one["segmentation"]))))
        borders = super().computeIoU(imgId, catId)
        for one, mask in zip(objects + found, whole, strict=True):
            one["segmentation"] = mask
        crowd = np.array([bool(one["iscrowd"]) for one in objects])
        return np.where(crowd, values, np.minimum(values, borders))
