"""Draws training samples as the network gets them: a contact sheet of augmented images with their boxes.

python tools/look.py --data D [--epoch E] [--count 16 | --index I] [--out FILE.png] [any flag of detect train]
python tools/look.py --run runs/train --epoch 7 --index 123    # the sample of that run, bit by bit
A sample is identified by seed, epoch and position in the epoch's order; --index draws one of them large.
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
from detect.inference.palette import color_of, ink_on
from detect.inference.text_rendering import render
from detect.tasks import get_task
from detect.types import Preprocess, Target


def annotate(image: np.ndarray, target: Target, names: Sequence[str], zoom: int = 1) -> np.ndarray:
    """Draw the boxes, class names and keypoints of a sample.

    Args:
        image: The sample, (H, W, 3) uint8 RGB.
        target: Its ground truth; crowd regions are drawn white.
        names: Class names.
        zoom: Integer factor of enlargement.

    Returns:
        A new image, `zoom` times as large.
    """
    canvas = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    corners = (target.boxes * zoom).round().int().tolist()
    for i, (left, top, right, bottom) in enumerate(corners):
        label, crowd = int(target.labels[i]), bool(target.crowd[i])
        color = (255, 255, 255) if crowd else color_of(label)
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), color, 1)
        cover = render(names[label] + " (crowd)" * crowd, 11)[..., None] / 255
        room = canvas[top : top + cover.shape[0], left : left + cover.shape[1]]
        cover = cover[: room.shape[0], : room.shape[1]]
        room[:] = (cover * ink_on(color) + (1 - cover) * np.array(color)).round()
        for x, y, seen in [] if target.keypoints is None else (target.keypoints[i]).tolist():
            if seen:
                cv2.circle(canvas, (round(x * zoom), round(y * zoom)), 2, color, -1 if seen == 2 else 1)
    return canvas


def sheet(images: Sequence[np.ndarray], gap: int = 4) -> np.ndarray:
    """Arrange images in rows and columns, `gap` white pixels apart."""
    columns = math.ceil(math.sqrt(len(images)))
    side = max(max(image.shape[:2]) for image in images) + gap
    canvas = np.full((side * math.ceil(len(images) / columns), side * columns, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * side, i % columns * side
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def samples(
    config: TrainConfig, split: str, epoch: int, positions: Sequence[int], ranks: int = 1
) -> tuple[list[tuple[np.ndarray, Target]], list[str]]:
    """Load the samples at these positions of the epoch's order, as a run with `config` gets them.

    Args:
        config: The options of the run.
        split: Dataset split.
        epoch: Epoch, counted from 0.
        positions: Positions in the epoch's order.
        ranks: Processes of the run; only --multi-scale, which draws an image size for each step, depends on it.

    Returns:
        (image, target) of each position, and the class names.

    Raises:
        UserError: If the dataset has no images, or a number is out of range.
    """
    task = get_task(with_task(config).task)
    annotations = load_data(config.data, split, config.skip_bad, task.image_level_labels, config.allow_outside)
    if annotations.dims != 2:
        raise UserError(f"{annotations.path} has no images to draw")
    annotations = verify(annotations, config.skip_bad, decode=False)  # a bad image leaves the order of the others
    annotations = usable(annotations, config.skip_bad, learned=split == "train" or not task.counts_degenerate_boxes)
    data = task.training_data(annotations, config, Preprocess(), 0.0)
    if epoch < 0 or ranks < 1:
        raise UserError(f"--epoch counts from 0 and --ranks from 1, not {epoch} and {ranks}")
    if not positions or not 0 <= min(positions) <= max(positions) < len(data):
        raise UserError(f"--index and --count must stay within the {len(data)} images of {config.data} ({split})")
    keys: dict[int, SampleKey] = {}
    for rank in range(ranks):
        plan = BatchPlan(
            batches(len(data), config.batch, rank, ranks, config.global_batch),
            config.imgsz,
            config.multi_scale,
            config.seed,
            epoch,
        )
        keys |= {key.position: key for batch in plan for key in batch}
    return [data[keys[position]] for position in positions], annotations.names


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet. Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", help="a run folder: short for --config RUN/config.yaml")
    parser.add_argument("--ranks", type=int, default=1, help="processes of that run; default: 1")
    parser.add_argument("--split", default="train", help="dataset split; default: train")
    parser.add_argument("--epoch", type=int, default=0, help="counted from 0, as in metrics.jsonl")
    parser.add_argument("--count", type=int, default=16, help="number of samples; default: 16")
    parser.add_argument("--index", type=int, help="draw only the sample at this position of the epoch's order, large")
    parser.add_argument("--out", default="runs/look.png", help="image file to write; default: runs/look.png")
    given, flags = parser.parse_known_args(arguments)
    if given.run is not None:
        flags = ["--config", str(Path(given.run) / "config.yaml"), *flags]
    if not cv2.haveImageWriter(given.out):
        raise UserError(f"--out {given.out}: must be an image file, such as look.png")
    positions, zoom = (range(given.count), 1) if given.index is None else ([given.index], 2)
    config = parse("train", flags)
    drawn, names = samples(config, given.split, given.epoch, positions, given.ranks)
    out = Path(given.out)
    save_image(out, sheet([annotate(image, target, names, zoom) for image, target in drawn]))
    ids = f", image id {drawn[0][1].image_id}" if given.index is not None else ""
    print(f"{out}: {len(positions)} samples of epoch {given.epoch}, seed {config.seed}{ids}")


if __name__ == "__main__":
    sys.exit(main())
