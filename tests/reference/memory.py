"""How much memory the processes of a loader hold, epoch by epoch."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from detect.config.augment import AugmentConfig
from detect.config.train import TrainConfig
from detect.data.annotations import Annotations
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import EvalLoader, TrainLoader
from detect.data.rng import SampleKey
from detect.data.sources.coco import load_coco
from detect.training.loop import Trainer
from detect.training.setup import train
from detect.utils.device import pick_device
from tests.reference.runs import children

FILES = 8  # images on the disk; all images of a crowded set are among them
SIDE = 64  # pixels


def crowded(folder: Path, images: int, boxes: int) -> Path:
    """A COCO file of so many images with so many boxes each, whose images are few files under many ids."""
    rng = np.random.default_rng(0)
    for k in range(FILES):
        cv2.imwrite(str(folder / f"{k}.png"), rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    listed = [{"id": i, "file_name": f"{i % FILES}.png", "width": SIDE, "height": SIDE} for i in range(images)]
    corners = rng.integers(0, SIDE // 2, (images * boxes, 2))
    both = np.concatenate([corners, rng.integers(8, SIDE // 2, (images * boxes, 2))], axis=1).tolist()
    annotations = [{"id": i, "image_id": i // boxes, "category_id": 1, "bbox": box} for i, box in enumerate(both)]
    record = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    path = folder / "instances.json"
    path.write_text(json.dumps(record))
    return path


def column_bytes(annotations: Annotations) -> int:
    """What the arrays of annotations take."""
    return sum(value.nbytes for value in vars(annotations).values() if isinstance(value, np.ndarray))


def repeated(annotations: Annotations, images: int, boxes: int) -> Annotations:
    """Annotations of the first image and box of `annotations`, repeated."""
    many = images * boxes
    columns = {key: getattr(annotations, key)[:1].repeat(many, axis=0) for key in ("boxes", "labels", "crowd", "areas")}
    return replace(
        annotations.select(np.zeros(images, np.int64)),
        **columns,
        image_ids=np.arange(images),
        starts=np.arange(images + 1) * boxes,
        ids=np.arange(many),
    )


def held(pid: int, *names: str) -> float:
    """Megabytes of a process by the kernel's account: `Pss` shares out what several use, `Private_…` it has alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names) / 1024


def all_held() -> float:
    """Megabytes of this process and its children together."""
    return sum(held(pid, "Pss") for pid in (os.getpid(), *children()))


def open_files() -> int:
    """How many files this process and its children have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), *children()))


class Leaky(CocoDataset):
    """The twin that keeps as much as its image of every sample it makes."""

    def __getitem__(self, draw: SampleKey):
        sample = super().__getitem__(draw)
        vars(self).setdefault("leak", []).append(bytes(sample[0]))
        return sample


class Copying(CocoDataset):
    """The twin that makes the annotations its own."""

    def __getitem__(self, draw: SampleKey):
        if "own" not in vars(self):
            self.own = copy.deepcopy(self.annotations)
        return super().__getitem__(draw)


def watch_loaders(path: Path, kind: type[CocoDataset], epochs: int, found: Path) -> None:
    """What is held after every epoch of training and evaluation loaders, two workers each, over the set of `path`."""
    pick_device("cpu")  # as training does: it changes how memory is kept
    torch.set_num_threads(1)
    annotations = load_coco(path)
    data = kind(annotations, SIDE, AugmentConfig(mixup=0.2), cache_gb=0.1)
    loader, validation = (
        TrainLoader(data, SIDE, 16, workers=2),
        EvalLoader(annotations, SIDE, 16, workers=2, cache_gb=0.1),
    )
    held_after, files = [], []
    for epoch in range(epochs):
        for batches in (loader.epoch(epoch), validation):
            for _ in batches:
                pass
        held_after.append(all_held())
        files.append(open_files())
    found.write_text(json.dumps({"held": held_after, "files": files}))


def watch_workers(folder: Path, kind: type[CocoDataset], boxes: int, found: Path) -> None:
    """What each of two workers has for itself alone, once it has read all of 2000 images of so many boxes each."""
    torch.set_num_threads(1)
    annotations = repeated(load_coco(crowded(folder, 1, 1)), 2000, boxes)
    loader = TrainLoader(kind(annotations, SIDE, cache_gb=0.0), SIDE, 50, workers=2)
    for _ in loader.epoch(0):
        pass
    alone = [held(pid, "Private_Clean", "Private_Dirty") for pid in children()]
    columns = sum(value.nbytes for value in vars(annotations).values() if isinstance(value, np.ndarray))
    found.write_text(json.dumps({"alone": alone, "columns": columns / 2**20}))


def watch_training(config: TrainConfig, found: Path) -> None:
    """What is held after every epoch of a training run."""
    held_after: list[float] = []
    finish = Trainer._finish

    def watched(self, row):
        finish(self, row)
        held_after.append(all_held())

    Trainer._finish = watched
    torch.set_num_threads(1)
    train(config)
    found.write_text(json.dumps({"held": held_after}))
