"""`detect serve`: serve a page to drop images and videos on, until interrupted."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Annotated

from detect.config.constraints import Count, Precision, Range, SideOrDefault
from detect.errors import UserError
from detect.utils.atomic_io import temporary_folder


@dataclass(frozen=True)
class ServeConfig:
    """Serve a page to drop images and videos on, at http://HOST:PORT; by default only this machine can reach it.

    `workers`: processes that each hold the model; with 2 or more, images never wait for a video. `max_mb`: megabytes of
    one upload; `max_total_mb`: megabytes of all files that the server holds at a time. `max_megapixels` and
    `max_frame_megapixels`: largest image, and largest frame of a video. `seconds`: longest time to send an upload, and
    longest time to work on it: an image is then rejected, a video ends early; `image_seconds`: the same for images
    alone, where it is less. `waiting`: requests that may wait for a worker; `connections`: connections that one client
    address may hold. More are rejected.

    A `host` other than a loopback address opens the server to other machines: `token` is a secret that they have to
    know (open /?token=TOKEN, or send Authorization: Bearer TOKEN; a --config file keeps it out of the list of
    processes), `allowed_host` the names by which they may reach it besides its address.
    """

    weights: str
    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65535)] = 8000
    allowed_host: list[str] = field(default_factory=list)
    token: str = ""
    imgsz: SideOrDefault = 0
    workers: Annotated[int, Range(1, 64)] = 2
    max_mb: Annotated[float, Range(0.01)] = 64.0
    max_total_mb: Annotated[float, Range(0.01)] = 1024.0
    max_megapixels: Annotated[float, Range(0.01)] = 64.0
    max_frame_megapixels: Annotated[float, Range(0.01)] = 10.0
    seconds: Annotated[float, Range(0.1)] = 60.0
    image_seconds: Annotated[float, Range(0.1)] = 10.0
    waiting: Count = 128
    connections: Count = 48
    device: str = "auto"
    precision: Precision = "auto"


def serve(config: ServeConfig) -> None:
    """Serve the page until a signal comes. Raises UserError for weights, an address or a folder that cannot be used."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError("detect serve needs the extra serve: pip install 'gridhead[serve]'") from error
    from detect.serve.server import run

    with _listen(config.host, config.port) as listening, temporary_folder() as folder:
        asyncio.run(run(config, listening, folder))


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 takes any that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port} cannot be listened at: {said}") from error
