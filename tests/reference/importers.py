"""What importers of others make of files that `detect.labelling` wrote: a program for an environment of its own.

    PYTHON tests/reference/importers.py FOLDER FORM

PYTHON has datumaro (for coco, voc and cvat), label-studio-sdk and labelme, and needs nothing of gridhead. It prints the
objects of each image as one JSON object on the last line, and fails where an importer rejects a file.
"""

import json
import logging
import shutil
import sys
from pathlib import Path


def through_datumaro(folder: Path, form: str) -> dict:
    import datumaro

    if form == "coco":  # it wants COCO's own folder
        (folder / "annotations").mkdir()
        for path in folder.glob("*.json"):
            path.rename(folder / "annotations" / path.name)
    if form == "cvat":  # and images as CVAT exports them
        for path in (folder / "images" / "train").iterdir():
            shutil.move(path, folder / "images" / path.name)
    found = {}
    dataset = datumaro.Dataset.import_from(str(folder), form)
    names = [one.name for one in dataset.categories()[datumaro.AnnotationType.label]]
    for item in dataset:
        objects = []
        for one in item.annotations:
            box = [float(value) for value in one.get_bbox()]
            objects.append([names[one.label], one.type.name, *box, float(one.get_area()), dict(one.attributes)])
        found[item.id] = objects
    return found


def through_label_studio(folder: Path) -> dict:
    import numpy as np
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((folder / "labelling_config.xml").read_text(encoding="utf-8").partition("?>")[2])
    interface.validate()
    found = {}
    for task in json.loads((folder / "tasks_train.json").read_text(encoding="utf-8")):
        assert interface.validate_task({"data": task["data"]}), task["data"]
        objects = []
        for prediction in task["predictions"]:
            errors = interface.validate_prediction(prediction, return_errors=True)
            assert not errors, errors
            for region in prediction["result"]:
                value, area = region["value"], None
                if region["type"] == "brushlabels":
                    area = int(np.count_nonzero(decode_rle(value["rle"])) // 4)
                objects.append([value[region["type"]][0], region["type"], area, region.get("score")])
        found[task["data"]["file"]] = objects
    return found


def through_labelme(folder: Path) -> dict:
    from labelme._label_file import read_label_file

    found = {}
    for path in sorted((folder / "train").rglob("*.json")):
        data = read_label_file(str(path))
        objects = [
            [
                one["label"],
                one["shape_type"],
                len(one["points"]),
                None if one["mask"] is None else int(one["mask"].sum()),
            ]
            for one in data.shapes
        ]
        found[path.relative_to(folder / "train").as_posix()] = objects
    return found


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    place, what = Path(sys.argv[1]), sys.argv[2]
    readers = {"label-studio": through_label_studio, "labelme": through_labelme}
    result = readers[what](place) if what in readers else through_datumaro(place, what)
    print("\n" + json.dumps(result))
