"""A process that looks at what the server was sent: `python -m detect.serve.worker`, started by `workers`.

It reads a line of json for each task, and writes one: the status, a blank, and the answer. It works within the server's
folder, so that no message names another one. Without the server it ends, and takes the folder with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
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
from detect.inference.pipeline import predict_to
from detect.inference.predictor import Predictor
from detect.inference.source import open_source
from detect.tasks import get_task
from detect.types import Detections, Frame, Postprocess
from detect.utils.names import json_text

Reply = tuple[int, dict[str, Any]]


class Tasks:
    """The tasks as they come; `stopped` is set while the current one is no longer wanted."""

    def __init__(self, lines: IO[bytes], folder: Path) -> None:
        self.queue, self.stopped = SimpleQueue[dict[str, Any]](), Event()
        Thread(target=self._listen, args=(lines, folder), daemon=True).start()

    def _listen(self, lines: IO[bytes], folder: Path) -> None:
        for line in lines:
            if (task := json.loads(line)) == "stop":
                self.stopped.set()
            else:
                self.stopped.clear()
                self.queue.put(task)
        shutil.rmtree(folder, ignore_errors=True)  # the server ended without a word: whoever ended it left this behind
        os._exit(0)  # whatever the other thread is doing


class Looker:
    """A detector, and what it says of the file `upload` in the current folder."""

    def __init__(self, settings: dict[str, Any], tasks: Tasks) -> None:
        self.settings, self.tasks = settings, tasks
        self.detector = Detector.load(settings["weights"], settings["device"], settings["precision"])
        if not get_task(self.detector.model.task).detects_objects:
            raise UserError(f"{settings['weights']} is no detector: detect serve shows boxes")
        self.detector.side(settings["imgsz"])

    def answer(self, task: dict[str, Any]) -> Reply:
        """The status and the answer to a task."""
        predictor = self.detector.predictor(Postprocess(task["conf"], task["iou"]), self.settings["imgsz"])
        try:
            return self.watch(task["name"], predictor) if task["kind"] == "video" else self.look(predictor)
        except UserError as error:
            full = getattr(error.__cause__, "errno", None) in FULL
            line, _, _ = one_line(error).partition(", or raise --")  # a flag is for who started the server
            return 507 if full else 400, {"error": line}
        except Exception:
            print_exc()
            return 500, {"error": "this is a defect of the server, whose log says more"}

    def look(self, predictor: Predictor) -> Reply:
        """What is in a picture: its width and height, and the detections as `detect predict` writes them."""
        data = Path("upload").read_bytes()
        height, width = parse_header(data, "the picture").size
        if height * width > self.settings["max_megapixels"] * 1e6:
            return _too_large("the picture is", width, height, self.settings["max_megapixels"])
        image = decode_image(data, "the picture")
        ((_, found),) = predictor([Frame(image, "picture")])
        height, width = image.shape[:2]
        return 200, {"width": width, "height": height, "detections": self._records(found)}

    def _records(self, found: Detections) -> list[dict[str, Any]]:
        records = []
        for i, (left, top, right, bottom) in enumerate(found.boxes.tolist()):
            box = [round(v, 2) for v in (left, top, right - left, bottom - top)]
            label = int(found.labels[i])
            record = {"category_id": self.detector.metadata.category_ids[label], "category": self.detector.names[label]}
            records.append(record | {"bbox": box, "score": round(float(found.scores[i]), 5)})
            if found.keypoints is not None:
                records[-1]["keypoints"] = [round(v, 2) for v in found.keypoints[i].flatten().tolist()]
        return records

    def watch(self, name: str, predictor: Predictor) -> Reply:
        """Look at a video for as long as is allowed and wanted; what is made of it is in the folder `out`."""
        end = time.monotonic() + self.settings["seconds"]

        def in_time(frames: Any) -> Iterator[Any]:
            with closing(predictor(frames)) as answers:
                for answer in answers:
                    yield answer
                    if time.monotonic() > end or self.tasks.stopped.is_set():
                        return

        Path("upload").rename("video.mp4")
        source = open_source("video.mp4", max_pixels=int(self.settings["max_frame_megapixels"] * 1e6))
        skeleton = [(a, b) for a, b in self.detector.metadata.skeleton]
        made = (self.detector.names, self.detector.metadata.category_ids, "out")
        done = predict_to(source, in_time, *made, skeleton=skeleton)  # type: ignore[arg-type]  # a predictor in all
        return 200, {"name": name, "frames": done.frames, "of": source.count, "objects": dict(done.objects)}


def _too_large(what: str, width: int, height: int, most: float) -> Reply:
    return 413, {"error": f"{what} {width} x {height}: more than {most:g} megapixels"}


def _limit_files(size: int) -> None:
    """Let no file that is written here become larger than `size` bytes, where the system knows of such limits."""
    if sys.platform == "win32":
        return
    with suppress(ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main() -> None:
    """Answer tasks until the server ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, also where no session keeps it from here
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no answer
    if not (line := sys.stdin.buffer.readline()):  # the server has ended already
        return
    settings = json.loads(line)
    folder = Path(settings["folder"])
    tasks = Tasks(sys.stdin.buffer, folder)
    try:
        plugins.load_installed()
        plugins.load(settings["plugin"])
        looker = Looker(settings, tasks)
    except UserError as error:
        replies.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    replies.write(b"{}\n")
    _limit_files(settings["most"])
    while True:
        task = tasks.queue.get()
        os.chdir(folder / task["name"])
        status, answer = looker.answer(task)
        os.chdir(folder)
        replies.write(f"{status} {json_text(answer)}\n".encode())


if __name__ == "__main__":
    main()
