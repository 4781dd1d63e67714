"""Turns YOLO, VOC or COCO data, or tables of landmarks, into COCO json; cuts a train and a val set out of one set.

    python tools/convert.py SOURCE --out FOLDER               instances_{split}.json and a data.yaml for --data
    python tools/convert.py SOURCE --out FOLDER --split 0.8   instances_train.json, instances_val.json and data.yaml
    python tools/convert.py SOURCE --out FILE.json            one file, where the source is one set

SOURCE is whatever `--data` takes, or one COCO json file. Images are not copied: file names stay relative to the image
folder, which data.yaml names, and each json file under `info`. Nothing is overwritten.
COCO records pass as they are, with segmentations; with --skip-bad they are written anew from what the program keeps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from detect.data.annotations import Annotations
from detect.data.roots import Roots
from detect.data.sources.coco import coco_loader
from detect.data.sources.formats import recognise
from detect.data.sources.image_names import image_roots
from detect.data.sources.inventory import split_name
from detect.errors import UserError, in_one_line
from detect.utils.atomic_io import replace_text
from detect.utils.json_files import read_json
from detect.utils.names import json_text, say

SWAPS, CANDIDATES = 2000, 128


@in_one_line
def main(arguments: list[str] | None = None) -> None:
    """The exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--out", required=True, type=Path, help="a folder, or one FILE.json")
    parser.add_argument("--split", type=float, metavar="SHARE", help="the share of the images that is for training")
    parser.add_argument("--seed", type=int, default=0, help="of the cut")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad records out, and list them")
    parser.add_argument("--allow-outside", action="store_true", help="use files that lists and links lead to elsewhere")
    options = parser.parse_args(arguments)
    convert(options.source, options.out, options.split, options.seed, options.skip_bad, options.allow_outside)


def convert(
    source: str,
    out: Path,
    share: float | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    allow_outside: bool = False,
) -> None:
    """Reads and checks all of `source`, then writes; UserError is raised before anything is written."""
    stores = _read(source, skip_bad, allow_outside)
    if share is not None:
        if len(stores) > 1:
            raise UserError(
                f"{source}: is split already ({', '.join(stores)}); --split cuts one set, such as one json file"
            )
        (store,) = stores.values()
        train, val = cut(store, share, seed)
        stores = {"train": store.select(train), "val": store.select(val)}
    single = out.suffix.lower() == ".json"
    if single and len(stores) > 1:
        raise UserError(f"{out}: cannot hold {len(stores)} sets ({', '.join(stores)}); give a folder as --out")
    files = {split: out if single else out / f"instances_{split}.json" for split in stores}
    description = [] if single else [out / "data.yaml"]
    for path in (*files.values(), *description):
        if path.exists():
            raise UserError(f"{path}: is there already and is not overwritten; choose another --out")
    for split, path in files.items():
        _write(stores[split], path, skip_bad)
    for path in description:
        parts = {split: {"annotations": file.name, "images": _root(stores[split])} for split, file in files.items()}
        replace_text(path, yaml.safe_dump(parts, sort_keys=False, allow_unicode=True))
        print(f"{path}: use it as --data")


def cut(store: Annotations, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image indices, ascending, of a train set with `share` of the images and of a val set with the rest.

    Starts from a random cut and swaps images between the halves where that brings the classes nearer to proportion,
    by the squared deviations from it, of each class's objects and of its images. Images without objects are cut by
    chance. The same seed gives the same cut. (Iterative stratification, Sechidis et al. 2011, left two to five times
    the deviation on COCO images: its greedy order gives the fullest ones to one half.)
    """
    count, classes = len(store), len(store.names)
    if not 0 < share < 1 or count < 2:
        raise UserError(f"{store.path}: {count} images cannot be cut by {share}; give a --split between 0 and 1")
    generator = np.random.default_rng(seed)
    order = generator.permutation(count)
    train, val = np.split(order, [min(max(round(share * count), 1), count - 1)])
    owner = np.repeat(np.arange(count), np.diff(store.starts))
    objects = np.bincount(owner * classes + store.labels, minlength=count * classes).reshape(count, classes)
    parts = np.concatenate([objects, objects > 0], axis=1).astype(np.float32)
    parts /= parts.sum(0).clip(min=1)  # every image's part of each total
    away = parts[val].sum(0) - parts.sum(0) * (len(val) / count)
    for _ in range(SWAPS):
        mine = generator.integers(len(val))
        theirs = generator.integers(len(train), size=CANDIDATES)
        after = away - parts[val[mine]] + parts[train[theirs]]
        cost = np.square(after).sum(1)
        best = int(cost.argmin())
        if cost[best] < np.square(away).sum():
            away = after[best]
            val[mine], train[theirs[best]] = train[theirs[best]], val[mine]
    return np.sort(train), np.sort(val)


def _read(source: str, skip_bad: bool, allow_outside: bool) -> dict[str, Annotations]:
    path = Path(source).expanduser()
    if path.suffix.lower() == ".json":
        name = path.stem.partition("_")[2]
        base = path.parent.parent if path.parent.name == "annotations" else path.parent
        load = coco_loader(path, image_roots(base, name), Roots(base, anywhere=allow_outside))
        return {split_name(name) or "train": _told(load(skip_bad))}
    return {s: _told(load(skip_bad)) for s, load in recognise(source, allow_outside=allow_outside).items()}


def _told(store: Annotations) -> Annotations:
    for line in store.left_out:
        say(f"left out: {line}")
    return store


def _root(store: Annotations) -> str:
    return str(store.root.resolve())


def _write(store: Annotations, path: Path, anew: bool) -> None:
    """One COCO file; the records of a COCO source as they are, unless `anew`."""
    content = store.to_coco() if anew or store.path.suffix.lower() != ".json" else _chosen(store)
    info = content.get("info")
    content["info"] = {**(info if isinstance(info, dict) else {}), "images": _root(store)}
    replace_text(path, json_text(content))
    say(f"{path}: {len(store)} images, {len(store.boxes)} objects ({_shares(store)}); images in {_root(store)}")


def _chosen(store: Annotations) -> dict:
    """The records of the store's COCO file that belong to the store's images."""
    content = read_json(store.path)
    chosen = set(store.image_ids.tolist())
    return {
        **content,
        "images": [record for record in content["images"] if record["id"] in chosen],
        "annotations": [record for record in content["annotations"] if record["image_id"] in chosen],
    }


def _shares(store: Annotations) -> str:
    counts: Iterable[int] = np.bincount(store.labels, minlength=len(store.names)).tolist()
    return ", ".join(f"{name} {count}" for name, count in zip(store.names, counts, strict=True))


if __name__ == "__main__":
    sys.exit(main())
