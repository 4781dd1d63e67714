"""Measures what augmentations cost: CPU time of a sample on one thread, and how wide a rotated box becomes.

python tools/warps.py --data D [--imgsz 640] [--count 60]
Rows of albumentations need the extra of that name. Times are the best of five rounds of `--count` samples each, without
mosaic and with images cached in memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.config.augment import AugmentConfig
from detect.data.augment.warp import Warp
from detect.data.datasets.detection import CocoDataset
from detect.data.rng import SampleKey
from detect.data.sources.formats import load_data
from detect.errors import in_one_line

OURS = {
    "defaults only": AugmentConfig(mosaic=0),
    "rotate 15": AugmentConfig(mosaic=0, rotate=15),
    "rotate 15, shear 5, perspective 0.1": AugmentConfig(mosaic=0, rotate=15, shear=5, perspective=0.1),
    "warp 0.02": AugmentConfig(mosaic=0, warp=0.02),
    "crop 0.5": AugmentConfig(mosaic=0, crop=0.5),
}
PIPELINES: dict[str, list[dict[str, dict]]] = {
    "albumentations Rotate": [{"Rotate": {"limit": 15, "p": 1}}],
    "albumentations Affine": [{"Affine": {"rotate": [-15, 15], "shear": [-5, 5], "p": 1}}],
    "albumentations ElasticTransform": [{"ElasticTransform": {"alpha": 300, "sigma": 15, "p": 1}}],
}


def best(run: Callable[[], object], rounds: int = 5) -> float:
    """Measure the CPU seconds of `run`: the minimum over the rounds."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def torchvision_row(size: int) -> tuple[float, float]:
    """Measure torchvision's RandomAffine on one image.

    Returns:
        CPU seconds, and the width of a 100 x 80 box that torchvision rotates by 45 degrees.
    """
    from torchvision import tv_tensors
    from torchvision.transforms import InterpolationMode, v2

    image = tv_tensors.Image(torch.randint(256, (3, size, size), dtype=torch.uint8))
    middle = size / 2
    corners = torch.tensor([[middle - 50, middle - 40, middle + 50, middle + 40]])
    boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(size, size))
    affine = v2.RandomAffine(15, shear=5, interpolation=InterpolationMode.BILINEAR)
    rotated = v2.RandomRotation((45, 45))(image, boxes)[1]
    return best(lambda: affine(image, boxes)), float(rotated[0, 2] - rotated[0, 0])


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table. Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", required=True, help="a detection dataset")
    parser.add_argument("--imgsz", type=int, default=640, help="image size in pixels; default: 640")
    parser.add_argument("--count", type=int, default=60, help="samples in a round; default: 60")
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    annotations = load_data(given.data, "train")
    count = min(given.count, len(annotations))
    rows = dict(OURS)
    if find_spec("albumentations"):
        rows |= {name: AugmentConfig(mosaic=0, albumentations=spec) for name, spec in PIPELINES.items()}
    print("| augmentation | ms a sample |\n| --- | --- |")
    for name, config in rows.items():
        data = CocoDataset(annotations, given.imgsz, config)
        samples = [SampleKey(0, position, given.imgsz) for position in range(count)]
        for key in samples:  # fills the cache
            data[key]
        print(f"| {name} | {1e3 * best(lambda d=data, s=samples: [d[key] for key in s]) / count:.2f} |")  # type: ignore[misc]
    seconds, wide = torchvision_row(given.imgsz)
    print(f"| torchvision v2 RandomAffine, alone | {1e3 * seconds:.2f} |\n")
    half = 0.5**0.5
    turned = Warp(200, np.array([[half, -half, 0], [half, half, 0], [0, 0, 1]]))
    box = turned.boxes(np.array([[-50.0, -40, 50, 40]]))[0]
    print(f"a box of 100 x 80 rotated by 45 degrees: {box[2] - box[0]:.1f} wide, with torchvision {wide:.1f}")


if __name__ == "__main__":
    sys.exit(main())
