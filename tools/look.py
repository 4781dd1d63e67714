"""Look at training samples as the network gets them: a contact sheet of augmented pictures with their boxes.

python tools/look.py --data D [--config RUN/config.yaml] [--epoch E] [--count 16 | --index I] [--out FILE.png]
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

from detect.cli import parse
from detect.config import TrainConfig
from detect.data.dataset import CocoDataset, Draw
from detect.data.formats import load_data
from detect.data.loader import TrainLoader
from detect.errors import UserError
from detect.infer.draw import color_of, ink_on
from detect.infer.text import render
from detect.types import Target


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
        for x, y, seen in [] if target.points is None else (target.points[i]).tolist():
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


def look(config: TrainConfig, split: str, epoch: int, positions: Sequence[int], zoom: int = 1) -> np.ndarray:
    """The sheet of the samples at these positions of the epoch's order, as a run of `config` on one rank sees them."""
    store = load_data(config.data, split, config.skip_bad)
    data = CocoDataset(store, config.imgsz, config.augment, config.seed, config.epochs, cache_gb=0)
    loader = TrainLoader(data, config.imgsz, config.batch, multi_scale=config.multi_scale)
    sides = np.concatenate([[loader.side(epoch, step)] * len(part) for step, part in enumerate(loader.parts)])
    if not positions or not 0 <= min(positions) <= max(positions) < len(data):
        raise UserError(f"--index and --count must stay within the {len(data)} images of {config.data} ({split})")
    samples = [data[Draw(epoch, position, int(sides[position]))] for position in positions]
    return sheet([annotate(image, target, store.names, zoom) for image, target in samples])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sheet. Exit status 2 is the user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="as for detect train")
    parser.add_argument("--config", help="a training configuration, such as a run's config.yaml")
    parser.add_argument("--split", default="train")
    parser.add_argument("--imgsz", type=int, help="side in pixels; 320 where no --config says otherwise")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--epoch", type=int, default=0)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--index", type=int, help="one place in the epoch's order, drawn large")
    parser.add_argument("--out", default="runs/look.png")
    given = parser.parse_args(arguments)
    if given.imgsz is None and given.config is None:
        given.imgsz = 320
    flags = [
        f"--{key}={value}" for key in ("config", "data", "imgsz", "seed") if (value := getattr(given, key)) is not None
    ]
    try:
        config = parse("train", flags)
        positions = range(given.count) if given.index is None else [given.index]
        picture = look(config, given.split, given.epoch, positions, 1 if given.index is None else 2)
        out = Path(given.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise UserError(f"--out {out}: could not be written")
    except (UserError, OSError, cv2.error) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{out}: {len(positions)} samples of epoch {given.epoch}, seed {config.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
