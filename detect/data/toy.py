"""The toy dataset, `--data toy`: real pixels, made without a download, the same for everyone.

Handwritten digits in photographs (see `scenes`), a folder in COCO form:
instances_train.json, instances_val.json, train/*.jpg, val/*.jpg, and video.mp4 with instances_video.json
(an entry a frame, `track_id` in every annotation). Video and val share no glyph and no photograph region with train.
"""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from detect.data.image_writer import save_image
from detect.data.outlines import Outlines
from detect.data.toy_images import Canvas, background, movers, scene
from detect.errors import UserError
from detect.utils.atomic_io import cache_folder, replace_text

VERSION = "toy-v2"  # raise it when the recipe changes: folders are cached by this name
EMPTY = 8  # every eighth image holds no object
MOST = 8  # digits in an image
FILM = (240, 320)  # height, width
RATE = 15  # frames a second
FRAMES = 90
CAST = 5  # digits in the film
CODECS = ("libx264", "libopenh264", "mpeg4")

CATEGORIES = [{"id": digit + 1, "name": str(digit), "supercategory": "digit"} for digit in range(10)]


def toy_folder() -> Path:
    """Return the toy dataset in the user's cache (see `cache_folder`) or the temporary folder; built if absent.

    Raises UserError where neither can be written.
    """
    for parent in (cache_folder, _temporary):
        try:
            folder = parent() / VERSION
            return folder if folder.is_dir() else build(folder)
        except OSError as error:
            failure = error
    raise UserError(f"cannot write the toy dataset: {failure}; set XDG_CACHE_HOME to a folder that can be written")


def build(folder: Path, seed: int = 0, train: int = 500, val: int = 120, size: int = 160) -> Path:
    """Make the toy dataset in `folder`, with `train` and `val` square images of `size` pixels.

    Images and annotations have the same bits for a seed; the film has the same frames, but x264 does not always encode
    them to the same bits.

    The folder appears whole or not at all. Raises UserError where it exists already, OSError where it cannot be made.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already: remove it or name another folder for the toy dataset")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        draft = Path(scratch) / folder.name
        draft.mkdir()
        _pictures(draft, "train", seed, train, size, first=1)
        _pictures(draft, "val", seed, val, size, first=train + 1)
        _film(draft, seed)
        try:
            draft.rename(folder)
        except OSError:  # somebody else made it meanwhile
            if not folder.is_dir():
                raise
    return folder


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / "gridhead"


def _annotations(first: int, image: int, digits: list[int], canvas: Canvas) -> list[dict]:
    """The annotation of each digit of an image, numbered from `first`: the visible ink, and the turned rectangle."""
    ink = Outlines.of_masks([canvas.owner == number for number in range(len(digits))])
    return [
        {
            "id": first + number,
            "image_id": image,
            "category_id": digit + 1,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
            "segmentation": ink.segmentation(number),
            "corners": canvas.corners[number].round(2).tolist(),
        }
        for number, (digit, box) in enumerate(zip(digits, canvas.boxes, strict=True))
    ]


def _write_json(path: Path, images: list[dict], annotations: list[dict]) -> None:
    info = {"description": "Digits in photographs, the embedded set of gridhead", "version": VERSION}
    record = {"info": info, "images": images, "annotations": annotations, "categories": CATEGORIES}
    replace_text(path, json.dumps(record))


def _pictures(folder: Path, split: str, seed: int, count: int, size: int, first: int) -> None:
    """One split: its images and its annotations. Each image has a generator of its own."""
    (folder / split).mkdir()
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(count):
        rng = np.random.default_rng([seed, ("train", "val").index(split), index])
        wanted = 0 if index % EMPTY == EMPTY - 1 else int(rng.integers(1, MOST + 1))
        canvas, digits = scene(split, rng, size, wanted)
        image = first + index
        name = f"{split}/{image:06d}.jpg"
        save_image(folder / name, canvas.pixels(), quality=92)
        images.append({"id": image, "file_name": name, "width": size, "height": size})
        annotations += _annotations(len(annotations) + 1, image, digits, canvas)
    _write_json(folder / f"instances_{split}.json", images, annotations)


def _film(folder: Path, seed: int) -> None:
    """The video of moving digits and its annotations; a digit has none in the frames in which it is hidden."""
    rng = np.random.default_rng([seed, 7])  # at seed 0 a film whose digits are distinct and cross now and then
    still = background("val", rng, FILM)
    cast = movers(rng, still, CAST)
    frames: list[np.ndarray] = []
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(FRAMES):
        canvas = Canvas(still.copy())
        for mover in cast:
            alpha, angle, x, y = mover.at(index / RATE, FILM)
            canvas.lay(alpha, mover.colour, x, y, angle)
        frames.append(canvas.pixels())
        images.append({"id": index + 1, "file_name": "video.mp4", "width": FILM[1], "height": FILM[0], "frame": index})
        entries = _annotations(0, index + 1, [mover.digit for mover in cast], canvas)
        for track in np.flatnonzero(canvas.legible()).tolist():
            annotations.append(entries[track] | {"id": len(annotations) + 1, "track_id": track + 1})
    _write_video(folder / "video.mp4", frames)
    _write_json(folder / "instances_video.json", images, annotations)


def _write_video(path: Path, frames: list[np.ndarray]) -> None:
    """H.264 in mp4 as browsers play it, where this PyAV has an encoder for it."""
    codec = next(name for name in CODECS if name in av.codecs_available)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(codec, rate=RATE)
        assert isinstance(stream, VideoStream)  # for the type checker: the codec is one for video
        stream.height, stream.width = FILM
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, RATE)
        stream.codec_context.thread_count = 1  # the same bits everywhere
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
