"""Set a part of the training images aside as a test set, by a seeded draw: what is tuned on val is judged there.

    python -m tools.hold_out --data D --share 0.25 --seed 0 --out FOLDER

writes COCO files for train, test and, if there is one, val, and a `data.yaml` for `--data`. Images are named where they
are; nothing is copied. A dataset that has a test set already is refused: use that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detect.data.annotations import Annotations
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError, in_one_line
from detect.utils.atomic_io import replace_text
from detect.utils.names import say
from detect.utils.yaml_files import dump_yaml


def parts(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the images that stay, and of those that are held out, each in their order.

    Args:
        count: images in all.
        share: the share that is held out.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(count)
    held = round(count * share)
    return np.sort(order[held:]), np.sort(order[:held])


def hold_out(data: str, share: float, seed: int, out: Path) -> Path:
    """Write the parts; returns the path of data.yaml.

    Raises:
        UserError: the data has no training set, or has a test set; or a part would be empty.
    """
    found = splits(data)
    if "train" not in found or "test" in found:
        missing = "has a test set already" if "test" in found else "has no training set"
        raise UserError(f"{data} {missing}: it has {', '.join(found)}")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another --out")
    train = load_data(data, "train")
    stay, held = parts(len(train), share, seed)
    if not len(stay) or not len(held):
        raise UserError(f"--share {share:g} of {len(train)} images leaves a part empty")
    sets = {"train": train.select(stay), "test": train.select(held)}
    if "val" in found:
        sets["val"] = load_data(data, "val")
    described = {name: _write(out / f"instances_{name}.json", one) for name, one in sets.items()}
    replace_text(out / "data.yaml", dump_yaml(described))
    say(f"{', '.join(f'{name} {len(one)} images' for name, one in sets.items())}: {out / 'data.yaml'}")
    return out / "data.yaml"


def _write(path: Path, annotations: Annotations) -> dict[str, str]:
    """Write a COCO file; returns how data.yaml names it."""
    replace_text(path, json.dumps(annotations.to_coco()))
    return {"annotations": path.name, "images": str(annotations.root.resolve())}


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="dataset with a training set")
    parser.add_argument("--share", type=float, default=0.25, help="share of the training images that is held out")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    given = parser.parse_args(arguments)
    hold_out(given.data, given.share, given.seed, given.out)


if __name__ == "__main__":
    raise SystemExit(main())
