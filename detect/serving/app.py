"""The application: a page, what it asks for, and the bounds that hold whoever asks.

One thread looks at pictures, so that requests wait for one another and never for the network; the time, size and number
of what is taken in are bounded, and whatever comes in is answered in one line.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from detect.api import Detector
from detect.data.images import decode_image, parse_header
from detect.errors import UserError
from detect.infer.job import predict_to
from detect.infer.predict import Predictor
from detect.infer.source import open_source
from detect.names import json_text
from detect.options import ServeConfig
from detect.types import Detections, Frame, Keep

T = TypeVar("T")
PAGE = Path(__file__).with_name("page.html")
KEPT = 4  # videos whose answers are kept
HERE = ("127.0.0.1", "localhost", "[::1]", "::1")
SAFE = {
    "Content-Security-Policy": "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' blob: data:; media-src 'self' blob:",
    "X-Content-Type-Options": "nosniff",
}


class Answer(JSONResponse):
    """A json answer, whatever names are in it."""

    def render(self, content: Any) -> bytes:
        """The bytes that are sent."""
        return json_text(content).encode()


class Refused(Exception):
    """A request that cannot be answered: the status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Served:
    """A detector behind one thread, and the bounds of what it is asked."""

    def __init__(self, detector: Detector, config: ServeConfig) -> None:
        self.detector, self.config = detector, config
        self.worker, self.asked = ThreadPoolExecutor(1, thread_name_prefix="detector"), 0
        self.folder = Path(tempfile.mkdtemp(prefix="gridhead-"))
        self.videos: OrderedDict[str, Path] = OrderedDict()

    def close(self) -> None:
        """Wait for what is being worked on, and leave nothing behind."""
        self.worker.shutdown(cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def predictor(self, request: Request) -> Predictor:
        """What the sliders of the page ask for."""
        try:
            conf, iou = (float(request.query_params.get(name, usual)) for name, usual in (("conf", 0.25), ("iou", 0.7)))
        except ValueError:
            raise Refused(400, "conf and iou must be numbers from 0 to 1") from None
        if not (0 <= conf <= 1 and 0 <= iou <= 1):
            raise Refused(400, "conf and iou must be numbers from 0 to 1")
        return self.detector.predictor(Keep(conf, iou), self.config.imgsz)

    async def work(self, task: Callable[[], T]) -> T:
        """The answer of `task`, when it is its turn. Raises Refused where too many wait already."""
        if self.asked >= self.config.waiting:
            raise Refused(503, f"{self.asked} requests are waiting already: try again later")
        self.asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.worker, task)
        finally:
            self.asked -= 1

    async def body(self, request: Request, kind: str) -> bytes:
        """What was sent, within the bounds of size and time; `kind` is what its content type must begin with."""
        said = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
        if not said.startswith((kind, "application/octet-stream")):
            raise Refused(
                415, f"content type {said[:80]!r}: send the bytes of {'a video' if kind == 'video/' else 'an image'}"
            )
        most = int(self.config.max_mb * 2**20)
        if int(request.headers.get("content-length", "0") or 0) > most:
            raise Refused(413, f"more than {self.config.max_mb:g} MB")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.config.seconds):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > most:
                        raise Refused(413, f"more than {self.config.max_mb:g} MB")
        except TimeoutError:
            raise Refused(408, f"it was not sent within {self.config.seconds:g} seconds") from None
        if not size:
            raise Refused(400, "nothing was sent")
        return b"".join(parts)

    def look(self, data: bytes, predictor: Predictor) -> dict[str, Any]:
        """What is in a picture: its width and height, and the detections as `detect predict` writes them."""
        height, width = parse_header(data, "the picture").size
        if height * width > self.config.max_megapixels * 1e6:
            raise Refused(
                413, f"the picture is {width} x {height}: more than {self.config.max_megapixels:g} megapixels"
            )
        image = decode_image(data, "the picture")
        ((_, found),) = predictor([Frame(image, "picture")])
        height, width = image.shape[:2]
        return {"width": width, "height": height, "detections": self._records(found)}

    def _records(self, found: Detections) -> list[dict[str, Any]]:
        records = []
        for i, (left, top, right, bottom) in enumerate(found.boxes.tolist()):
            box = [round(v, 2) for v in (left, top, right - left, bottom - top)]
            label = int(found.labels[i])
            record = {"category_id": self.detector.card.category_ids[label], "category": self.detector.names[label]}
            records.append(record | {"bbox": box, "score": round(float(found.scores[i]), 5)})
            if found.points is not None:
                records[-1]["keypoints"] = [round(v, 2) for v in found.points[i].flatten().tolist()]
        return records

    def watch(self, data: bytes, predictor: Predictor) -> dict[str, Any]:
        """Look at a video for as long as is allowed; the name under which its answers are kept for a while."""
        name = uuid4().hex
        folder = self.folder / name
        folder.mkdir()
        (folder / "video.mp4").write_bytes(data)
        end = time.monotonic() + self.config.seconds

        def in_time(frames: Any) -> Any:
            with closing(predictor(frames)) as answers:
                for answer in answers:
                    yield answer
                    if time.monotonic() > end:
                        return

        source = open_source(str(folder / "video.mp4"))
        skeleton = [(a, b) for a, b in self.detector.card.skeleton]
        made = (self.detector.names, self.detector.card.category_ids, folder / "out")
        done = predict_to(source, in_time, *made, skeleton=skeleton)  # type: ignore[arg-type]  # a predictor in all
        (folder / "video.mp4").unlink()
        self.videos[name] = folder / "out"
        while len(self.videos) > KEPT:
            shutil.rmtree(self.videos.popitem(last=False)[1].parent, ignore_errors=True)
        return {"name": name, "frames": done.frames, "of": source.count, "objects": dict(done.objects)}


def build(detector: Detector, config: ServeConfig) -> Starlette:
    """The application around a detector."""
    served = Served(detector, config)

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=SAFE)

    async def picture(request: Request) -> Response:
        predictor = served.predictor(request)
        data = await served.body(request, "image/")
        return Answer(await served.work(lambda: served.look(data, predictor)))

    async def video(request: Request) -> Response:
        predictor = served.predictor(request)
        data = await served.body(request, "video/")
        return Answer(await served.work(lambda: served.watch(data, predictor)))

    async def answer(request: Request) -> Response:
        folder, file = served.videos.get(request.path_params["name"]), request.path_params["file"]
        if folder is None or file not in ("video.mp4", "detections.json"):
            raise Refused(404, "no such answer: the last few videos are kept")
        return FileResponse(folder / file, headers=SAFE)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(served.close)

    routes = [
        Route("/", _guarded(page, config)),
        Route("/picture", _guarded(picture, config), methods=["POST"]),
        Route("/video", _guarded(video, config), methods=["POST"]),
        Route("/video/{name}/{file}", _guarded(answer, config)),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _guarded(
    respond: Callable[[Request], Awaitable[Response]], config: ServeConfig
) -> Callable[[Request], Awaitable[Response]]:
    """`respond`, with every mistake as one line, and deaf to pages of other sites that the browser has open."""

    async def guarded(request: Request) -> Response:
        try:
            _require_own(request, config)
            return await respond(request)
        except Refused as error:
            return Answer({"error": str(error)}, error.status, SAFE)
        except UserError as error:
            return Answer({"error": str(error)}, 400, SAFE)
        except ClientDisconnect:
            return Response(status_code=400)

    return guarded


def _require_own(request: Request, config: ServeConfig) -> None:
    """Raises Refused for a request that another site's page sent, or that reached this machine under another name."""
    host = request.headers.get("host", "")
    if config.host in HERE and host.rsplit(":", 1)[0] not in HERE and host not in HERE:
        raise Refused(403, "this server is for this machine alone: --host 0.0.0.0 opens it")
    origin = request.headers.get("origin")
    if origin is not None and origin.split("://")[-1] != host:
        raise Refused(403, "another site's page may not ask here")
