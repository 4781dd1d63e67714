"""Converts datasets, or what labelling programs export, to COCO json or shards; splits one set into train and val.

    python tools/convert.py SOURCE --out FOLDER               instances_{split}.json and a data.yaml for --data
    python tools/convert.py SOURCE --out FOLDER --split 0.8   instances_train.json, instances_val.json and data.yaml
    python tools/convert.py SOURCE --out FILE.json            one file, where the source is one set
    python tools/convert.py SOURCE --out FOLDER --to webdataset    train-000000.tar …, with the images in them

SOURCE is whatever `--data` takes, exports of CVAT, LabelMe, Label Studio and VIA among it, or one COCO json file.
Shards (`--to webdataset`, `--to parquet`) hold the images; FOLDER is then a dataset of its own, for --data, here or in
an object store. Otherwise:
Images are not copied: file names stay relative to the image folder, which data.yaml and the `info` of each json file
name. Nothing is overwritten. COCO records are copied unchanged, with segmentations; with --skip-bad they are written
from what the program reads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from detect.data.annotations import Annotations
from detect.data.roots import Roots
from detect.data.shard_writers import write_shards
from detect.data.sources.base import being_written
from detect.data.sources.coco import coco_loader
from detect.data.sources.formats import UnknownFormatError, recognise
from detect.data.sources.image_names import image_roots
from detect.data.sources.inventory import split_name
from detect.errors import UserError, in_one_line
from detect.utils.atomic_io import replace_text
from detect.utils.json_files import read_json
from detect.utils.names import json_text, say
from detect.utils.yaml_files import dump_yaml

SWAPS, CANDIDATES = 2000, 128
FORMS = ("coco", "webdataset", "parquet")


@in_one_line
def main(arguments: list[str] | None = None) -> None:
    """Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source", metavar="SOURCE", help="a dataset, as `--data` takes it, a COCO json file, or an export"
    )
    parser.add_argument("--out", required=True, type=Path, help="a folder, or one FILE.json")
    parser.add_argument("--split", type=float, metavar="SHARE", help="share of the images for training, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="seed of --split; default: 0")
    parser.add_argument("--skip-bad", action="store_true", help="skip bad records and list them")
    parser.add_argument("--allow-outside", action="store_true", help="allow files outside the dataset folder")
    parser.add_argument("--to", choices=FORMS, default="coco", help="what to write; default: coco")
    parser.add_argument("--shard-mb", type=float, default=256, metavar="MB", help="size of a shard; default: 256")
    options = parser.parse_args(arguments)
    sizes = {"form": options.to, "megabytes": options.shard_mb}
    convert(options.source, options.out, options.split, options.seed, options.skip_bad, options.allow_outside, **sizes)


def convert(
    source: str,
    out: Path,
    share: float | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    allow_outside: bool = False,
    form: str = "coco",
    megabytes: float = 256,
) -> None:
    """Read and check a dataset, then write it as COCO json or as shards.

    Args:
        source: Whatever `--data` takes, one COCO json file, or an export of a labelling program.
        out: Folder, or one `.json` file.
        share: Share of the images for training, to split one set. Default: keep the splits of `source`.
        seed: Seed of the split.
        skip_bad: Skip bad records and list them.
        allow_outside: Allow files outside the dataset folder.
        form: "coco"; "webdataset" or "parquet": shards, which hold the images.
        megabytes: Size of a shard.

    Raises:
        UserError: If anything is wrong, before anything is written.
    """
    sets, anew = _read(source, skip_bad, allow_outside)
    if share is not None:
        if len(sets) > 1:
            raise UserError(
                f"{source} has splits already ({', '.join(sets)}); --split needs a single set, such as one json file"
            )
        (annotations,) = sets.values()
        train, val = cut(annotations, share, seed)
        sets = {"train": annotations.select(train), "val": annotations.select(val)}
    if form != "coco":
        return _write_shards(sets, out, form, megabytes)
    single = out.suffix.lower() == ".json"
    if single and len(sets) > 1:
        raise UserError(f"{out} cannot hold {len(sets)} sets ({', '.join(sets)}); give a folder as --out")
    files = {split: out if single else out / f"instances_{split}.json" for split in sets}
    description = [] if single else [out / "data.yaml"]
    for path in (*files.values(), *description):
        if path.exists():
            raise UserError(f"{path} exists and is not overwritten; choose another --out")
    own = not single and not (out.is_dir() and any(out.iterdir()))  # a folder for this dataset alone
    with being_written(out) if own else nullcontext():
        for split, path in files.items():
            _write(sets[split], path, anew)
        for path in description:
            parts = {split: {"annotations": file.name, "images": _root(sets[split])} for split, file in files.items()}
            replace_text(path, dump_yaml(parts))
    for path in description:
        print(f"{path}: use it as --data")
    return None


def _write_shards(sets: dict[str, Annotations], out: Path, form: str, megabytes: float) -> None:
    """Write all sets as shards into a folder that holds nothing yet."""
    if not megabytes > 0:
        raise UserError(f"--shard-mb is {megabytes:g}: give the size of a shard in megabytes, such as 256")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} holds something already and is not overwritten; choose another --out")
    with being_written(out):
        for split, dataset in sets.items():
            path = write_shards(dataset, out, split, form, megabytes)
            say(f"{path}: {len(dataset)} images, {len(dataset.boxes)} objects ({_shares(dataset)})")
    print(f"{out}: use it as --data")


def cut(annotations: Annotations, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a dataset into train and val with stratified classes.

    Starts from a random split and swaps images between the two while that lowers the squared deviations from
    proportion, of each class's objects and of its images. Images without objects are split at random. (Iterative
    stratification, Sechidis et al. 2011, left two to five times the deviation on COCO images: its greedy order gives
    the images with the most objects to one side.)

    Args:
        annotations: The dataset.
        share: Share of the images for training, between 0 and 1.
        seed: Seed; the same seed gives the same split.

    Returns:
        Ascending image indices of train and of val.

    Raises:
        UserError: If `share` is out of range or there are fewer than two images.
    """
    count, classes = len(annotations), len(annotations.names)
    if not 0 < share < 1 or count < 2:
        raise UserError(
            f"{annotations.path}: {count} images cannot be split by {share}; give a --split between 0 and 1"
        )
    generator = np.random.default_rng(seed)
    order = generator.permutation(count)
    train, val = np.split(order, [min(max(round(share * count), 1), count - 1)])
    owner = np.repeat(np.arange(count), np.diff(annotations.starts))
    objects = np.bincount(owner * classes + annotations.labels, minlength=count * classes).reshape(count, classes)
    parts = np.concatenate([objects, objects > 0], axis=1).astype(np.float32)
    parts /= parts.sum(0).clip(min=1)  # share of every image in each total
    away = parts[val].sum(0) - parts.sum(0) * (len(val) / count)
    for _ in range(SWAPS):
        chosen = generator.integers(len(val))
        candidates = generator.integers(len(train), size=CANDIDATES)
        after = away - parts[val[chosen]] + parts[train[candidates]]
        cost = np.square(after).sum(1)
        best = int(cost.argmin())
        if cost[best] < np.square(away).sum():
            away = after[best]
            val[chosen], train[candidates[best]] = train[candidates[best]], val[chosen]
    return np.sort(train), np.sort(val)


def _read(source: str, skip_bad: bool, allow_outside: bool) -> tuple[dict[str, Annotations], bool]:
    """Read the sets of a source, and whether their records are written anew rather than copied."""
    path = Path(source).expanduser()
    try:
        loaders = recognise(source, allow_outside=allow_outside)
    except UnknownFormatError:
        if path.suffix.lower() != ".json" or not path.is_file():
            raise
        name = path.stem.partition("_")[2]
        base = path.parent.parent if path.parent.name == "annotations" else path.parent
        load = coco_loader(path, image_roots(base, name), Roots(base, anywhere=allow_outside))
        return {split_name(name) or "train": _report_skipped(load(skip_bad))}, skip_bad
    return {split: _report_skipped(load(skip_bad)) for split, load in loaders.items()}, skip_bad


def _report_skipped(annotations: Annotations) -> Annotations:
    for line in annotations.left_out:
        say(f"left out: {line}")
    return annotations


def _root(annotations: Annotations) -> str:
    return str(annotations.root.resolve())


def _write(annotations: Annotations, path: Path, anew: bool) -> None:
    """Write one COCO file; the records of a COCO source are copied unless `anew`."""
    copied = None if anew or annotations.path.suffix.lower() != ".json" else _chosen(annotations)
    content = copied or annotations.to_coco()
    info = content.get("info")
    content["info"] = {**(info if isinstance(info, dict) else {}), "images": _root(annotations)}
    replace_text(path, json_text(content))
    objects = f"{len(annotations.boxes)} objects ({_shares(annotations)})"
    say(f"{path}: {len(annotations)} images, {objects}; images in {_root(annotations)}")


def _chosen(annotations: Annotations) -> dict | None:
    """Read the records of the source's COCO file that belong to the images of `annotations`; None for other files."""
    content = read_json(annotations.path)
    if not isinstance(content, dict) or "images" not in content:
        return None
    chosen = set(annotations.image_ids.tolist())
    return {
        **content,
        "images": [record for record in content["images"] if record["id"] in chosen],
        "annotations": [record for record in content["annotations"] if record["image_id"] in chosen],
    }


def _shares(annotations: Annotations) -> str:
    counts: Iterable[int] = np.bincount(annotations.labels, minlength=len(annotations.names)).tolist()
    return ", ".join(f"{name} {count}" for name, count in zip(annotations.names, counts, strict=True))


if __name__ == "__main__":
    sys.exit(main())
