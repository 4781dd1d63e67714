"""Images and videos that are sent to `detect serve`, and the limits that every client is held to.

Uploads are written to disk and processed by other processes: see `uploads` and `workers`. Their time, size and number
are limited, and an error is one line.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from detect.commands.serve import ServeConfig
from detect.serve.connections import client_of
from detect.serve.responses import JsonAnswer, RequestRejected
from detect.serve.uploads import Upload, Uploads
from detect.serve.workers import Workers

T = TypeVar("T")
GRACE = 5.0  # seconds to close a video whose time is over


class Detection:
    """What `detect serve --weights W` does: workers, uploads, and the limits of requests.

    Args:
        config: the options of `detect serve`.
        folder: folder for uploads and results.
    """

    def __init__(self, config: ServeConfig, folder: Path) -> None:
        most = int(config.max_total_mb * 2**20)
        settings = {name: value for name, value in asdict(config).items() if name != "token"}
        self.config, self.uploads = config, Uploads(folder, most)
        self.workers = Workers({**settings, "folder": str(folder), "most": most}, config.workers)
        self.pending = Counter[str]()  # requests that wait or are processed, by client

    async def __aenter__(self) -> Detection:
        await self.workers.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def page(self) -> str:
        """The page, by what the model answers with."""
        return "segments.html" if self.workers.model.get("answers") == "segments" else "detect.html"

    async def close(self) -> None:
        """End all workers; requests that wait are rejected."""
        await self.workers.close()

    def routes(self) -> list[Route]:
        """The requests that it answers."""
        return [
            Route("/model", self.model),
            Route("/image", self.image, methods=["POST"]),
            Route("/video", self.video, methods=["POST"]),
            Route("/video/{name}/{file}", self.result_file),
        ]

    async def model(self, _: Request) -> Response:
        """The response to a question about the model: its classes, colours and image size."""
        return JsonAnswer(self.workers.model)

    async def image(self, request: Request) -> Response:
        """The response to an image."""
        return await self.respond(request, "image")

    async def video(self, request: Request) -> Response:
        """The response to a video."""
        return await self.respond(request, "video")

    async def result_file(self, request: Request) -> Response:
        """A file of the results of a video."""
        file = request.path_params["file"]
        path = self.uploads.result(request.path_params["name"], file)
        if path is None or file not in ("video.mp4", "detections.json"):
            raise RequestRejected(404, "no such result: only the last few videos are kept")
        return FileResponse(path)

    async def respond(self, request: Request, kind: str) -> Response:
        """The response to an upload, an "image" or a "video"."""
        job = {"kind": kind, **_thresholds(request), "polygons": _polygons(request)}
        with self.uploads.open() as upload:
            await self._receive(request, upload, kind)
            status, answer = await _unless_gone(request, self._work(request, {**job, "name": upload.name}))
            if kind == "video" and status == 200:
                self.uploads.keep(upload)
        return Response(answer, status, media_type="application/json")

    async def _work(self, request: Request, job: dict[str, Any]) -> tuple[int, bytes]:
        """The response of a worker. Raises RequestRejected where too many requests wait already."""
        client = client_of(request.client)
        if self.pending.total() >= self.config.waiting or self.pending[client] >= self.config.connections:
            raise RequestRejected(503, f"{self.pending.total()} requests are waiting already: try again later")
        longest = self.config.seconds
        seconds = longest + GRACE if job["kind"] == "video" else min(longest, self.config.image_seconds)
        self.pending[client] += 1
        try:
            return await self.workers.run(job, client, seconds)
        finally:
            self.pending -= Counter([client])  # which forgets those at 0

    async def _receive(self, request: Request, upload: Upload, kind: str) -> None:
        """Write the body into `upload`, within the limits of size and time; its content type must be of `kind`."""
        said = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
        if not said.startswith((f"{kind}/", "application/octet-stream")):
            article = "a video" if kind == "video" else "an image"
            raise RequestRejected(415, f"not {article}: the file's type is {said[:80]!r}; {kind}/* is accepted")
        most, too_large = int(self.config.max_mb * 2**20), RequestRejected(413, f"more than {self.config.max_mb:g} MB")
        if int(request.headers.get("content-length", "0")) > most:
            raise too_large
        try:
            async with asyncio.timeout(self.config.seconds):
                async for part in request.stream():
                    if upload.size + len(part) > most:
                        raise too_large
                    upload.write(part)
        except TimeoutError:
            raise RequestRejected(408, f"the upload took longer than {self.config.seconds:g} seconds") from None
        if not upload.size:
            raise RequestRejected(400, "the upload is empty")


def _thresholds(request: Request) -> dict[str, float | None]:
    """The thresholds in the query: the sliders of the page. Without a conf they are those of the weights."""
    try:
        chosen = {name: float(request.query_params[name]) for name in ("conf", "iou") if name in request.query_params}
    except ValueError:
        chosen = {"conf": -1}
    if not all(0 <= value <= 1 for value in chosen.values()):
        raise RequestRejected(400, "conf and iou must be numbers from 0 to 1")
    return {"conf": None, "iou": 0.7, **chosen}


def _polygons(request: Request) -> bool:
    """Whether masks are asked for as polygons, too."""
    said = request.query_params.get("polygons", "false").lower()
    if said not in ("true", "false"):
        raise RequestRejected(400, "polygons must be true or false")
    return said == "true"


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. If the client disconnects first, it is cancelled and ClientDisconnect raised."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        gone.cancel()
        working.cancel()
        await asyncio.wait({working})  # its files are in use until then


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
