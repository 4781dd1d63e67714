"""What a reader of the documentation has: images, videos, labels of every kind, and files that others published."""

import json
import shutil

import numpy as np
import torch
import torchvision
import yaml

from detect.data.toy import VERSION, build
from detect.utils.atomic_io import cache_folder
from tests.reference.published import write_all


def write_files(folder):
    """Fill a folder, and the cache with a toy set that is small, too."""
    build(cache_folder() / VERSION, train=24, val=8, size=64)
    shutil.copytree(cache_folder() / VERSION, folder / "digits")
    _describe(folder)
    write_all(folder)
    torch.save(torchvision.models.squeezenet1_1().state_dict(), folder / "squeezenet1_1.pth")


def _describe(folder):
    """Write what describes the digits: splits, cameras, weather, keypoints, folders of classes, a file of pairs."""
    train, val = (json.loads((folder / f"digits/instances_{split}.json").read_text()) for split in ("train", "val"))
    for image in train["images"]:
        image["camera"] = "left" if image["id"] % 2 else "right"
    _write(folder / "tiny.yaml", train=train, val=train, test=val)  # val is train, so that little training is enough
    rows = [f"{image['file_name']},{'sun' if image['id'] % 2 else 'rain'}" for image in train["images"]]
    (folder / "images.csv").write_text("\n".join(["image,weather", *rows]))
    for labels in (train, val):
        _mark(labels)
    _write(folder / "points.yaml", train=train, val=val)
    other = build(folder / "other", seed=1, train=8, val=1, size=64)
    (folder / "photos").mkdir()
    for image in (other / "train").glob("*.jpg"):
        shutil.copy(image, folder / f"photos/photo-{image.name}")
    for name in ("clip", "clip2", "clip3"):
        shutil.copy(other / "video.mp4", folder / f"{name}.mp4")
    shutil.copytree(folder / "digits/train", folder / "photos/train")
    (folder / "labels").mkdir()
    for split in ("train", "val"):  # as the guides call them
        (folder / f"labels/{split}.json").write_text(json.dumps(train))
    for split in ("train", "val", "test"):
        for name in ("ann", "bob"):
            shutil.copytree(folder / "digits/val", folder / "classes" / split / name)
    for split, people in {"train": ("ann", "bob", "cas", "dan"), "test": ("eve", "fay")}.items():
        for name in people:
            shutil.copytree(folder / "digits/val", folder / "crowd" / split / name)
    _describe_street(folder)
    files = [
        f"test/{name}/{one.name}" for name in ("ann", "bob") for one in sorted((folder / "digits/val").iterdir())[:2]
    ]
    pairs = [f"{one},{other},{int(one[:8] == other[:8])}" for one in files for other in files if one < other]
    (folder / "pairs.csv").write_text("\n".join(["a,b,same", *pairs]))
    pairs = [one.replace("ann", "eve").replace("bob", "fay") for one in pairs]
    (folder / "pairs_of_people.csv").write_text("\n".join(["a,b,same", *pairs]))
    rng = np.random.default_rng(0)
    for name, separator in {"GunPoint_TRAIN.tsv": "\t", "GunPoint_TEST.tsv": "\t", "GunPoint_TRAIN.txt": " "}.items():
        signals = [[1 + i % 2, *rng.normal(i % 2, 1, 64).round(3).tolist()] for i in range(12)]
        (folder / name).write_text("\n".join(separator.join(map(str, signal)) for signal in signals))


def _describe_street(folder):
    """Write a film as MOTChallenge has it, and what stands for the package trackeval, which needs another OpenCV."""
    street = folder / "data/tud-campus"
    shutil.copytree(folder / "digits/val", street / "img1")
    rows = [f"{frame},1,{10 + frame},10,12,12,1,-1,-1,-1" for frame in range(1, 9)]
    for name in ("gt", "det"):
        (street / name).mkdir()
        (street / name / f"{name}.txt").write_text("\n".join(rows))
    answer = "lambda self, data: dict.fromkeys(['HOTA', 'MOTA', 'IDF1', 'IDSW', 'CLR_FN', 'CLR_FP'], 0)"
    (folder / "trackeval").mkdir()
    (folder / "trackeval/__init__.py").write_text("")
    kinds = [f"class {name}:\n    eval_sequence = {answer}" for name in ("CLEAR", "HOTA", "Identity")]
    (folder / "trackeval/metrics.py").write_text("\n".join(kinds))


def _mark(labels):
    """Give each image one object with two keypoints."""
    for one in labels["categories"]:
        one |= {"keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}
    for one in labels["annotations"]:
        x, y, w, h = one["bbox"]
        one |= {"keypoints": [x, y, 2, x + w, y + h, 2], "num_keypoints": 2}
    labels["annotations"] = list({one["image_id"]: one for one in labels["annotations"]}.values())


def _write(path, **splits):
    for split, labels in splits.items():
        (path.parent / f"{path.stem}_{split}.json").write_text(json.dumps(labels))
    named = {split: {"annotations": f"{path.stem}_{split}.json", "images": "digits"} for split in splits}
    path.write_text(yaml.safe_dump(named))
