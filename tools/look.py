"""Look at training samples as the network gets them: a contact sheet of augmented pictures with their boxes.

python tools/look.py --data D [--epoch E] [--count 16 | --index I] [--out FILE.png] [any flag of detect train]
python tools/look.py --run runs/train --epoch 7 --index 123    # what that run saw, to the bit
A sample is named by its seed, its epoch and its place in the epoch's order; --index draws one large.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.cli.parser import parse
from detect.config.train import TrainConfig, with_task
from detect.data.image_writer import save_image
from detect.data.rng import BatchPlan, SampleKey, batches
from detect.data.sources.formats import load_data
from detect.data.validate import usable, verify
from detect.errors import UserError, in_one_line
from detect.inference.draw import color_of, ink_on
from detect.inference.text_rendering import render
from detect.tasks import get_task
from detect.types import Preprocess, Target


def annotate(image: np.ndarray, target: Target, names: Sequence[str], zoom: int = 1) -> np.ndarray:
    """The sample (H, W, 3) enlarged `zoom` times, with its boxes, class names and keypoints; crowd regions white."""
    picture = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    corners = (target.boxes * zoom).round().int().tolist()
    for i, (left, top, right, bottom) in enumerate(corners):
        label, crowd = int(target.labels[i]), bool(target.crowd[i])
        color = (255, 255, 255) if crowd else color_of(label)
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), color, 1)
        cover = render(names[label] + " (crowd)" * crowd, 11)[..., None] / 255
        room = picture[top : top + cover.shape[0], left : left + cover.shape[1]]
        cover = cover[: room.shape[0], : room.shape[1]]
        room[:] = (cover * ink_on(color) + (1 - cover) * np.array(color)).round()
        for x, y, seen in [] if target.keypoints is None else (target.keypoints[i]).tolist():
            if seen:
                cv2.circle(picture, (round(x * zoom), round(y * zoom)), 2, color, -1 if seen == 2 else 1)
    return picture


def sheet(pictures: Sequence[np.ndarray], gap: int = 4) -> np.ndarray:
    """The pictures in rows and columns, white between them."""
    columns = math.ceil(math.sqrt(len(pictures)))
    side = max(max(picture.shape[:2]) for picture in pictures) + gap
    canvas = np.full((side * math.ceil(len(pictures) / columns), side * columns, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * side, i % columns * side
        canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def samples(
    config: TrainConfig, split: str, epoch: int, positions: Sequence[int], ranks: int = 1
) -> tuple[list[tuple[np.ndarray, Target]], list[str]]:
    """The samples at these positions of the epoch's order, as a run of `config` gets them, and the class names.

    `ranks`, the processes of the run, matter only to --multi-scale, which draws a side for each step.
    """
    task = get_task(with_task(config).task)
    store = load_data(config.data, split, config.skip_bad, task.image_level_labels, config.allow_outside)
    if store.dims != 2:
        raise UserError(f"{store.path} holds no pictures: there is nothing to draw")
    store = verify(store, config.skip_bad, decode=False)  # a bad image leaves the order of the others
    store = usable(store, config.skip_bad, learned=split == "train" or not task.counts_degenerate_boxes)
    data = task.training_data(store, config, Preprocess(), 0.0)
    if epoch < 0 or ranks < 1:
        raise UserError(f"--epoch counts from 0 and --ranks from 1, not {epoch} and {ranks}")
    if not positions or not 0 <= min(positions) <= max(positions) < len(data):
        raise UserError(f"--index and --count must stay within the {len(data)} images of {config.data} ({split})")
    keys: dict[int, SampleKey] = {}
    for rank in range(ranks):
        plan = BatchPlan(
            batches(len(data), config.batch, rank, ranks), config.imgsz, config.multi_scale, config.seed, epoch
        )
        keys |= {key.position: key for batch in plan for key in batch}
    return [data[keys[position]] for position in positions], store.names


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet. Exit status 2 is the user's mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", help="a run's folder: short for --config RUN/config.yaml")
    parser.add_argument("--ranks", type=int, default=1, help="processes of that run, where it had several")
    parser.add_argument("--split", default="train")
    parser.add_argument("--epoch", type=int, default=0, help="counted from 0, as in metrics.jsonl")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--index", type=int, help="one place in the epoch's order, drawn large")
    parser.add_argument("--out", default="runs/look.png")
    given, flags = parser.parse_known_args(arguments)
    if given.run is not None:
        flags = ["--config", str(Path(given.run) / "config.yaml"), *flags]
    if not cv2.haveImageWriter(given.out):
        raise UserError(f"--out {given.out}: name a picture to write, such as picture.png")
    positions, zoom = (range(given.count), 1) if given.index is None else ([given.index], 2)
    config = parse("train", flags)
    pictures, names = samples(config, given.split, given.epoch, positions, given.ranks)
    picture = sheet([annotate(image, target, names, zoom) for image, target in pictures])
    out = Path(given.out)
    save_image(out, picture)
    ids = f", image id {pictures[0][1].image_id}" if given.index is not None else ""
    print(f"{out}: {len(positions)} samples of epoch {given.epoch}, seed {config.seed}{ids}")


if __name__ == "__main__":
    sys.exit(main())
