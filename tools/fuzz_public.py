"""Targets of the fuzzer for large public sets, results files and labelling programs: see `fuzz_targets`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from tools.fuzz_data import each, make_images, make_json

POINTS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
SYNSETS = {"n01440764": "tench, Tinca tinca", "n02012849": "crane", "n03126707": "crane, lifter"}
PROGRAMS = ("cvat", "label-studio", "labelme")


def _text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_public(folder: Path) -> None:
    """Every large set that is read in its own layout, each in the folder of its format."""
    for form, make in MAKERS.items():
        make(folder / form)


def _lvis(folder: Path) -> None:
    make_images(folder, "train2017/a.jpg", "val2017/b.jpg")
    images = [{"id": 1, "coco_url": "http://images.cocodataset.org/train2017/a.jpg", "width": 40, "height": 20}]
    images += [{"id": 2, "coco_url": "http://images.cocodataset.org/val2017/b.jpg", "width": 40, "height": 20}]
    for one in images:
        one |= {"neg_category_ids": [2], "not_exhaustive_category_ids": [1]}
    outline: dict[str, Any] = {"segmentation": [[1, 2, 11, 2, 11, 10.5]], "area": 40, "bbox": [1, 2, 10, 8.5]}
    annotations = [{"id": i, "image_id": i, "category_id": 1, **outline} for i in (1, 2)]
    categories = [{"id": i, "name": name, "frequency": often} for i, name, often in ((1, "cat", "r"), (2, "dog", "f"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _text(folder / "lvis_v1_train.json", json.dumps(content))


def _objects365(folder: Path) -> None:
    make_images(folder, "train/patch8/a.jpg")
    one = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1, "isfake": 0, "area": 12}
    image = {"id": 7, "file_name": "images/v1/patch8/a.jpg", "width": 40, "height": 20, "license": 5}
    content = {"images": [image], "annotations": [one], "categories": [{"id": 3, "name": "Chair"}]}
    _text(folder / "zhiyuan_objv2_train.json", json.dumps(content))


def _open_images(folder: Path) -> None:
    make_images(folder, "validation/a1.jpg", "validation/b2.jpg")
    _text(folder / "class-descriptions-boxable.csv", "/m/07yv9,Vehicle", "/m/0k4j,Car", "/m/01yrx,Cat")
    rows = ("a1,xclick,/m/0k4j,1,0.1,0.5,0.2,0.6,0,0,0,0,0", "gone,xclick,/m/0k4j,1,0.5,0.9,0.2,0.6,0,0,1,0,0")
    _text(folder / "validation-annotations-bbox.csv", BOXES, *rows)
    rows = ("a1,verification,/m/01yrx,0", "b2,verification,/m/07yv9,1")
    _text(folder / "validation-annotations-human-imagelabels-boxable.csv", BOXES[: BOXES.index(",XMin")], *rows)
    tree = {"LabelName": "/m/07yv9", "Subcategory": [{"LabelName": "/m/0k4j", "Part": [{"LabelName": "/m/01yrx"}]}]}
    _text(folder / "bbox_labels_600_hierarchy.json", json.dumps({"LabelName": "/m/0bl9f", "Subcategory": [tree]}))


def _wider_face(folder: Path) -> None:
    make_images(folder, "WIDER_val/images/0--Parade/a.jpg", "WIDER_val/images/0--Parade/b.jpg")
    faces = ("0--Parade/a.jpg", "2", "1 2 10 8 0 0 0 0 0 0 ", "20 2 5 5 2 0 0 1 2 1 ")
    none = ("0--Parade/b.jpg", "0", "0 0 0 0 0 0 0 0 0 0 ")
    _text(folder / "wider_face_split/wider_face_val_bbx_gt.txt", *none, *faces)


def _celeba(folder: Path) -> None:
    names = [f"00000{n}.jpg" for n in range(1, 4)]
    make_images(folder, *(f"img_celeba/{name}" for name in names))
    for file, head, values in (
        ("list_eval_partition", (), ("0", "0", "1")),
        ("list_landmarks_celeba", ("3", POINTS), ["5 6 9 6 7 8 5 10 9 10"] * 3),
        ("list_bbox_celeba", ("3", "image_id x_1 y_1 width height"), ["2   1  20  18"] * 3),
        ("identity_CelebA", (), ("10", "9", "9")),
    ):
        _text(folder / f"{file}.txt", *head, *(f"{name} {value}" for name, value in zip(names, values, strict=True)))


def _imagenet(folder: Path) -> None:
    _text(folder / "LOC_synset_mapping.txt", *(f"{synset} {words}" for synset, words in SYNSETS.items()))
    rows = ("ILSVRC2012_val_1,n01440764 85 1 499 272", "ILSVRC2012_val_2,n03126707 85 1 499 272 n03126707 1 2 3 4 ")
    _text(folder / "LOC_val_solution.csv", "ImageId,PredictionString", *rows)
    make_images(folder, "val/ILSVRC2012_val_1.JPEG", "val/ILSVRC2012_val_2.JPEG", "train/n01440764/a.JPEG")


def _imagenet_numbers(folder: Path) -> None:
    """ImageNet's validation set by numbers, and what they mean."""
    _text(folder / "ILSVRC2012_validation_ground_truth.txt", "490", "1")
    _text(folder / "map_clsloc.txt", "n01440764 1 tench", "n03126707 490 crane")
    make_images(folder, "val/ILSVRC2012_val_1.JPEG", "val/ILSVRC2012_val_2.JPEG")


MAKERS = {
    "lvis": _lvis,
    "objects365": _objects365,
    "open_images": _open_images,
    "wider_face": _wider_face,
    "celeba": _celeba,
    "imagenet": _imagenet,
    "imagenet_numbers": _imagenet_numbers,
}


def read_public(path: Path) -> None:
    """Read all splits of the set that the file belongs to, for detection and with labels of whole images."""
    from detect.data.sources.formats import load_data, splits

    folder = next(place for place in path.parents if place.name in MAKERS)

    def used(labels: str, skip_bad: bool) -> None:
        for split in splits(folder, labels):
            annotations = load_data(folder, split, skip_bad, labels)
            json.dumps(annotations.to_coco())
            for i in range(len(annotations)):
                annotations.target(i)

    kinds = [*(["images"] if folder.name in ("celeba", "imagenet", "imagenet_numbers") else [])]
    kinds += [""] if "imagenet" not in folder.name else []
    each(*(partial(used, labels, skip_bad) for labels in kinds for skip_bad in (True, False)))


def make_results(folder: Path) -> None:
    """Annotations, and results files of every kind of geometry."""
    make_json(folder)
    content = json.loads((folder / "instances_train.json").read_text())
    for one in content["annotations"]:
        x, y, w, h = one["bbox"]
        one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    (folder / "train.coco").write_text(json.dumps(content))
    (folder / "instances_train.json").unlink()
    where = {"image_id": 1, "category_id": 1, "score": 0.5}
    outline = {"size": [20, 40], "counts": "]15?0[f0"}
    for kind, shape in (
        ("bbox", {"bbox": [1, 2, 10, 8.5]}),
        ("segmentation", {"segmentation": outline}),
        ("obb", {"obb": [20, 10, 12, 4.5, 0.7]}),
        ("corners", {"corners": [[1, 2], [11, 2], [11, 10], [1, 10]]}),
        ("keypoints", {"keypoints": [1, 2, 0.9, 3, 4, 0.5]}),
    ):
        rows = [{**where, **shape}, {**where, **shape, "image_id": 3, "score": 1}]
        (folder / f"{kind}.json").write_text(json.dumps(rows))
    (folder / "data.yaml").write_text("train: {annotations: train.coco, images: images}\n")


def read_results(path: Path) -> None:
    """Judge the results file, or two of them where their data are damaged."""
    from detect.commands.evaluate import EvaluateConfig
    from detect.evaluation.results_file import judged_file

    def judged(file: Path, skip_bad: bool) -> None:
        config = EvaluateConfig([], str(path.with_name("data.yaml")), split="train", skip_bad=skip_bad)
        judged_file(config, str(file))[0].evaluator.result()

    files = [path] if path.suffix == ".json" else [path.with_name(f"{kind}.json") for kind in ("bbox", "obb")]
    each(*(partial(judged, file, skip_bad) for file in files for skip_bad in (True, False)))


def make_labels(folder: Path) -> None:
    """A dataset, and its labels as the labelling programs export them."""
    import numpy as np

    from detect.data.sources.formats import load_data
    from detect.labelling.labels import Labels
    from detect.labelling.writer import write_dataset

    make_json(folder / "set")
    given = load_data(folder / "set", "train")
    tracks = np.arange(len(given.boxes))
    labels = Labels(given, scores=np.full(len(tracks), 0.5), review=tracks > 0, notes=["a note"] * len(tracks))
    for form in PROGRAMS:
        write_dataset({"train": labels}, folder / form, form)
    make_json(folder / "boxes")
    boxes = given.to_coco()
    for one in (*boxes["annotations"], *boxes["categories"]):
        one.pop("keypoints", None)
    (folder / "boxes/instances_train.json").write_text(json.dumps(boxes))
    plain = load_data(folder / "boxes", "train")
    write_dataset({"train": Labels(plain, tracks=tracks)}, folder / "tracks", "cvat", images="copy")
    (folder / "tracks/labels.json").unlink()


def read_labels(path: Path) -> None:
    """Bring the labels back into the dataset that they were made from."""
    from detect.data.sources.formats import load_data
    from detect.labelling.corrected import read_corrected
    from detect.labelling.merge import Merge

    folder = next(place for place in path.parents if (place / "set").is_dir())

    def merged(skip_bad: bool) -> None:
        merge = Merge({"train": load_data(folder / "set", "train")}, new_classes=True, conflicts="last")
        known = [(image.file, str(image.record["file_name"])) for image in merge.images]
        names = [str(one["name"]) for one in merge.categories]
        for corrected in read_corrected(path.parent, known, names, skip_bad):
            merge.take(path, corrected)
        merge.finish()

    each(lambda: merged(True), lambda: merged(False))
