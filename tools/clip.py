"""Makes the clip of the README: a detector follows the digits in the video of the toy set.

    detect demo
    python tools/clip.py --weights runs/demo/train/best.safetensors --out docs/assets/clip.webp

The video is enlarged before it is annotated, so that labels can be read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.cli.parser import from_values
from detect.commands.predict import predict
from detect.data.toy import toy_folder
from detect.errors import in_one_line
from detect.inference.source import open_source
from detect.inference.video_writer import VideoWriter
from detect.utils.atomic_io import replace_file

FRAMES = 60  # two seconds are enough to see what it does


def frames_of(video: Path, most: int) -> list[np.ndarray]:
    """The first frames (H, W, 3) uint8 RGB of a video."""
    return [frame.image for frame, _ in zip(open_source(str(video)), range(most), strict=False)]


def enlarged(images: Sequence[np.ndarray], scale: int, path: Path, rate: int) -> Path:
    """Write a video of images, each side `scale` times as long."""
    video = VideoWriter(path, Fraction(rate))
    for i, image in enumerate(images):
        video.write(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), i / rate)
    video.close()
    return path


@in_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Annotate the enlarged video with tracks, and write it as an animated WebP."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, help="weights of a detector of the toy set's digits")
    parser.add_argument("--out", type=Path, default=Path("docs/assets/clip.webp"), help="file; default: %(default)s")
    parser.add_argument("--scale", type=int, default=2, help="factor of width and height; default: %(default)s")
    parser.add_argument("--rate", type=int, default=12, help="frames a second; default: %(default)s")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        images = frames_of(toy_folder() / "video.mp4", FRAMES)
        video = enlarged(images, given.scale, Path(folder) / "digits.mp4", given.rate)
        flags = {"weights": given.weights, "source": str(video), "out": f"{folder}/tracked", "track": True, "conf": 0.4}
        predict(from_values("predict", flags))
        first, *others = map(Image.fromarray, frames_of(Path(folder) / "tracked" / "digits.mp4", FRAMES))
    more = {"save_all": True, "append_images": others, "duration": 1000 // given.rate, "loop": 0, "quality": 50}
    replace_file(given.out, lambda part: first.save(part, "WEBP", method=4, **more))
    print(f"{given.out}: {len(others) + 1} frames, {given.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
