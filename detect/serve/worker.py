"""A process that runs the model on uploads: `python -m detect.serve.worker`, started by `workers`.

It reads a line of JSON for each job, and writes a line for it: the HTTP status, a blank, and the response. It works
inside the server's folder, so that messages name no other path. When the server ends, it ends and removes the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from traceback import print_exc
from typing import IO, Any

from detect import plugins
from detect.api import Detector
from detect.data.images import decode_image, parse_header
from detect.errors import FULL, UserError, one_line
from detect.inference.palette import Color, color_of, tints
from detect.inference.pipeline import predict_to
from detect.inference.predictor import Predictor
from detect.inference.semantic_drawing import palette_png
from detect.inference.source import open_source
from detect.masks import RleMasks
from detect.semantic import SemanticMap
from detect.tasks import get_task
from detect.types import Frame
from detect.utils.names import json_text

Response = tuple[int, dict[str, Any]]


class Jobs:
    """The jobs as they come; `stopped` is set while the current one is cancelled."""

    def __init__(self, lines: IO[bytes], folder: Path) -> None:
        self.queue, self.stopped = SimpleQueue[dict[str, Any]](), Event()
        Thread(target=self._read, args=(lines, folder), daemon=True).start()

    def _read(self, lines: IO[bytes], folder: Path) -> None:
        for line in lines:
            if (job := json.loads(line)) == "stop":
                self.stopped.set()
            else:
                self.stopped.clear()
                self.queue.put(job)
        shutil.rmtree(folder, ignore_errors=True)  # the server was killed and left it behind
        os._exit(0)  # whatever the other thread is doing


class Inference:
    """A detector that runs on the file `upload` in the current folder."""

    def __init__(self, settings: dict[str, Any], jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs
        self.detector = Detector.load(settings["weights"], settings["device"], settings["precision"])
        task = get_task(self.detector.model.task)
        if not task.detects_objects and not task.labels_pixels:
            raise UserError(
                f"{settings['weights']} is no detector: detect serve shows boxes, masks and classes of pixels"
            )
        self.labels_pixels = task.labels_pixels
        self.detector.side(settings["imgsz"])

    def model(self) -> dict[str, Any]:
        """The classes with their colours and confidence thresholds, the joints of keypoints, and the image size."""
        detector, metadata = self.detector, self.detector.metadata
        columns = zip(metadata.category_ids, detector.names, metadata.thresholds_of(), strict=True)
        classes = [dict(zip(("id", "name", "conf"), row, strict=True)) for row in columns]
        for label, one in enumerate(classes):
            shades = tints(label, one_class=len(classes) == 1)
            one |= {"color": _code(color_of(label)), "tints": [_code(shade) for shade in shades]}
        weights, size = Path(self.settings["weights"]).name, detector.side(self.settings["imgsz"])
        known = {"weights": weights, "imgsz": size, "classes": classes, "skeleton": metadata.skeleton}
        return known | {"answers": "segments" if self.labels_pixels else "detections"}

    def respond(self, job: dict[str, Any]) -> Response:
        """The HTTP status and the response to a job."""
        keep = self.detector.metadata.postprocess(job["conf"], iou=job["iou"])
        predictor = self.detector.predictor(keep, self.settings["imgsz"])
        try:
            if job["kind"] == "video":
                return self.predict_video(job["name"], predictor)
            return self.predict_image(predictor, job["polygons"])
        except UserError as error:
            full = getattr(error.__cause__, "errno", None) in FULL
            line, _, _ = one_line(error).partition(", or raise --")  # options are for the person who started the server
            return 507 if full else 400, {"error": line}
        except Exception:
            print_exc()
            return 500, {"error": "this is a defect of the server; its log has the details"}

    def predict_image(self, predictor: Predictor, polygons: bool) -> Response:
        """The width and height of an image, and its detections as `detect predict` writes them.

        With `polygons`, an object with a mask also has its borders, in the form of COCO's polygons. A class map becomes
        a record for each class, and a PNG (base64).
        """
        data = Path("upload").read_bytes()
        height, width = parse_header(data, "the image").size
        if height * width > self.settings["max_megapixels"] * 1e6:
            return _too_large("the image is", width, height, self.settings["max_megapixels"])
        image = decode_image(data, "the image")
        ((_, found),) = predictor([Frame(image, "image")])
        size = {"width": image.shape[1], "height": image.shape[0]}
        found = found.described(self.detector.names, self.detector.metadata.category_ids)
        records = found.records()
        if isinstance(found, SemanticMap):
            return 200, size | {"segments": records, "label_map": b64encode(palette_png(found)).decode()}
        if polygons and isinstance(found.masks, RleMasks):
            for i, record in enumerate(records):
                record["polygons"] = [ring.ravel().tolist() for ring in found.masks.polygons(i)]
        return 200, size | {"detections": records}

    def predict_video(self, name: str, predictor: Predictor) -> Response:
        """Process a video until its time is over or the job is cancelled; the results are in the folder `out`."""
        if self.labels_pixels:
            return 400, {"error": "videos are for models of boxes and masks: send images"}
        end, size = time.monotonic() + self.settings["seconds"], (0, 0)

        def in_time(frames: Any) -> Iterator[Any]:
            nonlocal size
            with closing(predictor(frames)) as pairs:
                for pair in pairs:
                    size = pair[0].image.shape[:2]
                    yield pair
                    if time.monotonic() > end or self.jobs.stopped.is_set():
                        return

        Path("upload").rename("video.mp4")
        source = open_source("video.mp4", max_pixels=int(self.settings["max_frame_megapixels"] * 1e6))
        skeleton = [(a, b) for a, b in self.detector.metadata.skeleton]
        known = (self.detector.names, self.detector.metadata.category_ids, "out")
        done = predict_to(source, in_time, *known, skeleton=skeleton)  # type: ignore[arg-type]  # it only has to be callable
        seen = {"width": size[1], "height": size[0], "frames": done.frames, "of": source.count}
        return 200, {"name": name, **seen, "objects": dict(done.objects)}


def _code(color: Color) -> str:
    """A colour as HTML writes it."""
    return f"#{bytes(color).hex()}"


def _too_large(what: str, width: int, height: int, most: float) -> Response:
    return 413, {"error": f"{what} {width} x {height}: more than {most:g} megapixels"}


def _limit_files(size: int) -> None:
    """Limit files that this process writes to `size` bytes, on systems that have such limits."""
    if sys.platform != "win32":
        import resource

        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main() -> None:
    """Run jobs until the server ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, also where no session keeps it from here
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not mix with responses
    if not (line := sys.stdin.buffer.readline()):  # the server has ended already
        return
    settings = json.loads(line)
    folder = Path(settings["folder"])
    jobs = Jobs(sys.stdin.buffer, folder)
    try:
        plugins.load_installed()
        plugins.load(settings["plugin"])
        inference = Inference(settings, jobs)
    except UserError as error:
        replies.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    replies.write(f"{json_text(inference.model())}\n".encode())
    _limit_files(settings["most"])
    while True:
        job = jobs.queue.get()
        os.chdir(folder / job["name"])
        status, response = inference.respond(job)
        os.chdir(folder)
        replies.write(f"{status} {json_text(response)}\n".encode())


if __name__ == "__main__":
    main()
