"""Files for labelling programs are read by importers of others, which live in an environment of their own.

GRIDHEAD_IMPORTERS names its interpreter: `python -m venv E; E/bin/pip install datumaro label-studio-sdk labelme`, then
GRIDHEAD_IMPORTERS=E/bin/python. Without it these tests are skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from detect.labelling.labels import Labels
from detect.labelling.writer import write_dataset
from tests.detect.test_labels import SIZE, labels

PROGRAM = Path(__file__).parents[1] / "reference" / "importers.py"
PYTHON = os.environ.get("GRIDHEAD_IMPORTERS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="GRIDHEAD_IMPORTERS names no interpreter with the importers"),
]


def imported(tmp_path, kind, form):
    """What an importer reads in images a and c, and the labels that were written."""
    given = labels(tmp_path / "photos", kind)
    given = given.annotations.select([0, 2])  # stems that differ: of datumaro's items those of folders are none
    given = Labels(given, scores=np.array([0.9, 0.3]), review=np.array([False, True]), notes=["", "a bird?"])
    write_dataset({"train": given}, tmp_path / "out", form, images="copy")
    run = subprocess.run([PYTHON, str(PROGRAM), str(tmp_path / "out"), form], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1]), given


def same_box(found, box):
    assert np.allclose(found, box, atol=1), (found, box)


@pytest.mark.parametrize("kind", ["boxes", "masks", "parts", "oriented", "keypoints"])
@pytest.mark.parametrize("form", ["coco", "voc", "cvat"])
def test_datumaro_reads_what_is_written(tmp_path, kind, form):
    if (form, kind) == ("voc", "oriented"):
        pytest.skip("a robndbox of roLabelImg is unknown to it")
    found, given = imported(tmp_path, kind, form)
    assert sorted(found) == ["a", "ü 1"] and found["ü 1"] == []
    objects = found["a"]
    boxes = given.annotations.boxes
    for name, box in (("cat", boxes[0]), ("a & <dog>", boxes[1])):
        mine = np.array([one[2:6] for one in objects if one[0] == name and one[1] != "points"])
        assert len(mine)
        if (form, kind) != ("cvat", "oriented"):  # its rotated box is given as one that is not turned
            low, high = mine[:, :2].min(0), (mine[:, :2] + mine[:, 2:]).max(0)
            same_box([*low, *(high - low)], box)
    marked = next(one[-1] for one in objects if one[0] == "a & <dog>")
    if form != "coco":  # whose readers pass over keys of one's own
        assert str(marked["review"]).lower() == "true" and marked["note"] == "a bird?"
    if kind == "masks" and form != "voc":
        area = given.objects(0)[0].pixels(SIZE)[2].sum()
        assert next(one[6] for one in objects if one[0] == "cat") == area


@pytest.mark.parametrize("kind", ["boxes", "masks", "parts", "oriented", "keypoints"])
def test_label_studio_validates_tasks_and_configuration(tmp_path, kind):
    found, given = imported(tmp_path, kind, "label-studio")
    assert sorted(found) == ["a.png", "ü 1.png"] and found["ü 1.png"] == []
    objects = [one for one in found["a.png"] if one[1] != "keypointlabels"]
    assert [(one[0], one[3]) for one in objects] == [("cat", 0.9), ("a & <dog>", 0.3)]
    if kind == "masks":
        assert objects[0][1] == "brushlabels" and objects[0][2] == given.objects(0)[0].pixels(SIZE)[2].sum()


@pytest.mark.parametrize("kind", ["boxes", "masks", "parts", "oriented", "keypoints"])
def test_labelme_opens_every_file(tmp_path, kind):
    found, given = imported(tmp_path, kind, "labelme")
    assert sorted(found) == ["a.json", "ü 1.json"] and found["ü 1.json"] == []
    assert {one[0] for one in found["a.json"] if one[1] != "point"} == {"cat", "a & <dog>"}
    if kind == "masks":
        mask = next(one for one in found["a.json"] if one[1] == "mask")
        assert mask[3] == given.objects(0)[0].pixels(SIZE)[2].sum()
