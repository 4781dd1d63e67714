"""Images that EXIF turns: the annotated size says how their boxes see them, unless the boxes know better."""

import json

import numpy as np
import pytest
from PIL import Image

from detect.data.sources.coco import load_coco
from detect.data.validate import verify
from detect.data_check.findings import check

STORED, TURNED = (64, 96), (96, 64)  # (h, w)
LOW = [40, 70, 20, 20]  # x, y, width, height: inside the turned image alone
WIDE = [70, 40, 20, 20]  # inside the stored one alone
BOTH = [10, 10, 20, 20]


def annotations_of(folder, images):
    """Annotations of images, each stored 96 x 64, of EXIF `orientation` and annotated (h, w) `size`, with `boxes`."""
    records, annotations = [], []
    for i, (orientation, size, boxes) in enumerate(images, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        pixels = np.zeros((*STORED, 3), np.uint8)
        pixels[:, :48] = 250  # the left half as stored is the upper half as orientation 6 turns it
        Image.fromarray(pixels).save(folder / f"{i}.png", exif=exif)
        sides = {"height": size[0], "width": size[1]} if size else {}
        records.append({"id": i, "file_name": f"{i}.png", **sides})
        annotations += [
            {"id": len(annotations) + n, "image_id": i, "category_id": 1, "bbox": box} for n, box in enumerate(boxes, 1)
        ]
    content = {"images": records, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    (folder / "instances_train.json").write_text(json.dumps(content))
    return load_coco(folder / "instances_train.json")


CASES = {
    "the boxes fit turned only": ([(6, STORED, [BOTH, LOW])], [TURNED], 1),
    "the boxes fit as stored only": ([(6, TURNED, [WIDE])], [STORED], 1),
    "they fit as annotated": ([(6, STORED, [WIDE]), (6, TURNED, [LOW])], [STORED, TURNED], 0),
    "one decides for all": ([(6, STORED, [LOW]), (8, STORED, [BOTH])], [TURNED, TURNED], 2),
    "one confirms for all": ([(6, STORED, [WIDE]), (8, STORED, [BOTH])], [STORED, STORED], 0),
    "they disagree": ([(6, STORED, [LOW]), (6, STORED, [WIDE]), (6, STORED, [BOTH])], [TURNED, STORED, STORED], 2),
    "nothing decides": ([(6, STORED, [BOTH])], [STORED], 1),
    "as viewers show it": ([(6, TURNED, [BOTH])], [TURNED], 0),
    "no size, boxes decide": ([(6, None, [WIDE])], [STORED], 1),
    "no size, nothing decides": ([(6, None, [BOTH])], [TURNED], 1),
    "upside down": ([(3, STORED, [BOTH])], [STORED], 1),
    "upright": ([(1, STORED, [LOW, BOTH])], [STORED], 0),
    "no boxes": ([(6, STORED, []), (3, STORED, [])], [STORED, STORED], 0),
    "the whole image": ([(6, STORED, [[0, 0, 96, 64]])], [STORED], 0),
    "boxes that fit neither way": ([(6, STORED, [LOW, WIDE])], [STORED], 1),
}


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_boxes_decide_where_they_can(tmp_path, name, decode):
    images, sizes, notes = CASES[name]
    annotations = verify(annotations_of(tmp_path, images), decode=decode)
    assert [annotations.read(i).shape[:2] for i in range(len(annotations))] == sizes
    assert [kind for kind, _ in annotations.notes] == ["turned"] * notes
    findings = [one for one in check(str(tmp_path), 96).findings if one.kind == "turned"]
    assert [one.text for one in findings] == [line for _, line in annotations.notes]


def test_the_pixels_are_turned_with_the_size(tmp_path):
    image = verify(annotations_of(tmp_path, [(6, STORED, [LOW])])).read(0)
    assert image[:48].min() == 250 and image[48:].max() == 0
    image = verify(annotations_of(tmp_path, [(6, TURNED, [WIDE])])).read(0)
    assert image[:, :48].min() == 250 and image[:, 48:].max() == 0
