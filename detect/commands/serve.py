"""`detect serve`: serve a page to drop images and videos on, or a live view of training, until interrupted."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field, replace
from typing import Annotated

from detect.config.constraints import Count, Precision, Range, ReadWith, SideOrDefault
from detect.errors import UserError
from detect.hub import resolve
from detect.utils.atomic_io import temporary_folder


@dataclass(frozen=True)
class ServeConfig:
    """Serve a page at http://HOST:PORT until interrupted: for images, videos and the camera, or a view of training.

    By default only this machine can reach it.
    """

    weights: str = ""
    """Weights: a file, an exported one, or a name of `detect weights`."""
    run: list[str] = field(default_factory=list)
    """In place of --weights: folders of training runs. The page shows how they go on; it only reads them."""
    host: str = "127.0.0.1"
    """Address to listen at. Other than a loopback address opens the server to other machines: set --token then."""
    port: Annotated[int, Range(0, 65535)] = 8000
    """TCP port. 0: any free one."""
    allowed_host: list[str] = field(default_factory=list)
    """Names of the server besides its address. Requests with other names are rejected."""
    token: str = ""
    """Secret that other machines have to know. They open /?token=TOKEN, or send Authorization: Bearer TOKEN. A --config
    file keeps it out of the list of processes."""
    imgsz: Annotated[SideOrDefault, ReadWith("weights")] = 0
    """Image size in pixels. Default: the training size."""
    workers: Annotated[int, Range(1, 64), ReadWith("weights")] = 2
    """Processes that each hold the model. With 2 or more, images never wait for a video."""
    max_mb: Annotated[float, Range(0.01), ReadWith("weights")] = 64.0
    """Largest upload, in megabytes."""
    max_total_mb: Annotated[float, Range(0.01), ReadWith("weights")] = 1024.0
    """All files on the server together, in megabytes."""
    max_megapixels: Annotated[float, Range(0.01), ReadWith("weights")] = 64.0
    """Largest image, in megapixels."""
    max_frame_megapixels: Annotated[float, Range(0.01), ReadWith("weights")] = 10.0
    """Largest frame of a video, in megapixels."""
    seconds: Annotated[float, Range(0.1)] = 60.0
    """Time limit of an upload, in seconds. It holds for sending it, and for working on it: an image is then rejected, a
    video ends early."""
    image_seconds: Annotated[float, Range(0.1), ReadWith("weights")] = 10.0
    """Time limit of an image, in seconds. It counts where it is less than --seconds."""
    waiting: Annotated[Count, ReadWith("weights")] = 128
    """Requests that may wait; more are rejected."""
    connections: Count = 48
    """Connections of one client; more are rejected."""
    device: Annotated[str, ReadWith("weights")] = "auto"
    """Device: auto, cpu, cuda, cuda:N or mps. Default: a GPU if there is one."""
    precision: Annotated[Precision, ReadWith("weights")] = "auto"
    """Type of numbers in the network. Default: measured on this machine."""


def serve(config: ServeConfig) -> None:
    """Serve the page until a signal ends it.

    Raises:
        UserError: the weights, the runs, the address or the temporary folder cannot be used, or the extra serve is not
            installed.
    """
    if bool(config.weights) == bool(config.run):
        raise UserError(
            "detect serve needs either --weights or --run: `detect serve --weights picodet_s_416` takes published "
            "weights (`detect weights` lists them) for a page to drop images on, `detect serve --run runs/train` shows "
            "a training run"
        )
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError("detect serve needs the extra serve: pip install 'gridhead[serve]'") from error
    from detect.serve.server import run

    if config.weights:
        config = replace(config, weights=str(resolve(config.weights)))  # once, before the workers open it
    with _listen(config.host, config.port) as listening, temporary_folder() as folder:
        asyncio.run(run(config, listening, folder))


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 takes any free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port} cannot be used: {said}") from error
