"""The application: a page, what it asks for, and the bounds that hold whoever asks.

What comes in is written to disk and looked at by other processes: see `uploads` and `workers`. The time, size and
number of what is taken in are bounded, and whatever comes in is answered in one line.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from detect.commands.serve import ServeConfig
from detect.serve.access import Access, Guard
from detect.serve.connections import client_of
from detect.serve.responses import PAGE, Answer, Refused
from detect.serve.uploads import Upload, Uploads
from detect.serve.workers import Workers

T = TypeVar("T")
GRACE = 5.0  # seconds in which a video whose time is over is closed


class Served:
    """Workers and uploads, and the bounds of what they are asked."""

    def __init__(self, config: ServeConfig, workers: Workers, uploads: Uploads) -> None:
        self.config, self.workers, self.uploads = config, workers, uploads
        self.asked = Counter[str]()  # requests that wait or are worked on, by client

    async def respond(self, request: Request, kind: str) -> Response:
        """The answer to what was sent, an "image" or a "video"."""
        task = {"kind": kind, **_chosen(request)}
        with self.uploads.open() as upload:
            await self._receive(request, upload, kind)
            status, answer = await _unless_gone(request, self._work(request, {**task, "name": upload.name}))
            if kind == "video" and status == 200:
                self.uploads.keep(upload)
        return Response(answer, status, media_type="application/json")

    async def _work(self, request: Request, task: dict[str, Any]) -> tuple[int, bytes]:
        """What a worker says, when it is its turn. Raises Refused where too many wait already."""
        client = client_of(request.client)
        if self.asked.total() >= self.config.waiting or self.asked[client] >= self.config.connections:
            raise Refused(503, f"{self.asked.total()} requests are waiting already: try again later")
        longest = self.config.seconds
        seconds = longest + GRACE if task["kind"] == "video" else min(longest, self.config.image_seconds)
        self.asked[client] += 1
        try:
            return await self.workers.ask(task, client, seconds)
        finally:
            self.asked -= Counter([client])  # which forgets those at 0

    async def _receive(self, request: Request, upload: Upload, kind: str) -> None:
        """Write what is sent into `upload`, within the bounds of size and time; its content type must be of `kind`."""
        said = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
        if not said.startswith((f"{kind}/", "application/octet-stream")):
            article = "a video" if kind == "video" else "an image"
            raise Refused(415, f"content type {said[:80]!r}: send the bytes of {article}")
        most, too_large = int(self.config.max_mb * 2**20), Refused(413, f"more than {self.config.max_mb:g} MB")
        if int(request.headers.get("content-length", "0")) > most:
            raise too_large
        try:
            async with asyncio.timeout(self.config.seconds):
                async for part in request.stream():
                    if upload.size + len(part) > most:
                        raise too_large
                    upload.write(part)
        except TimeoutError:
            raise Refused(408, f"it was not sent within {self.config.seconds:g} seconds") from None
        if not upload.size:
            raise Refused(400, "nothing was sent")


def _chosen(request: Request) -> dict[str, float]:
    """What the sliders of the page ask for."""
    try:
        chosen = {name: float(request.query_params.get(name, usual)) for name, usual in (("conf", 0.25), ("iou", 0.7))}
    except ValueError:
        chosen = {"conf": -1}
    if not all(0 <= value <= 1 for value in chosen.values()):
        raise Refused(400, "conf and iou must be numbers from 0 to 1")
    return chosen


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled, and ClientDisconnect raised, where the client goes away before."""
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


def build(config: ServeConfig, workers: Workers, uploads: Uploads) -> ASGIApp:
    """The application around the workers. Raises UserError for names and tokens that cannot be used."""
    served, access = Served(config, workers, uploads), Access(config)

    async def page(request: Request) -> Response:
        return access.remember(request.query_params) or HTMLResponse(PAGE.read_text(encoding="utf-8"))

    async def picture(request: Request) -> Response:
        return await served.respond(request, "image")

    async def video(request: Request) -> Response:
        return await served.respond(request, "video")

    async def made(request: Request) -> Response:
        file = request.path_params["file"]
        path = uploads.made(request.path_params["name"], file)
        if path is None or file not in ("video.mp4", "detections.json"):
            raise Refused(404, "no such answer: the last few videos are kept")
        return FileResponse(path)

    routes = [
        Route("/", page),
        Route("/picture", picture, methods=["POST"]),
        Route("/video", video, methods=["POST"]),
        Route("/video/{name}/{file}", made),
    ]
    errors = {Refused: _refused, HTTPException: _no_route, ClientDisconnect: _gone, Exception: _defect}
    return Guard(Starlette(routes=routes, exception_handlers=errors), access)  # type: ignore[arg-type]


async def _refused(_: Request, error: Refused) -> Response:
    return error.answer


async def _no_route(_: Request, error: HTTPException) -> Response:
    return Answer({"error": str(error.detail)}, error.status_code, error.headers)


async def _gone(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)


async def _defect(_: Request, error: Exception) -> Response:
    return Answer({"error": "this is a defect of the server, whose log says more"}, 500)
