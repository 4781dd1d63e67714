"""`detect serve`: load the weights, then serve until interrupted."""

from __future__ import annotations

import socket

from detect.api import Detector
from detect.errors import UserError
from detect.options import ServeConfig


def serve(config: ServeConfig) -> None:
    """Serve the page. Raises UserError for weights or an address that cannot be used."""
    try:
        import uvicorn

        from detect.serving.app import build
    except ImportError as error:
        raise UserError("detect serve needs the extra serve: pip install 'gridhead[serve]'") from error
    detector = Detector.load(config.weights, config.device, config.precision)
    if detector.model.task not in ("detect", "keypoints"):
        raise UserError(f"{config.weights} is no detector: detect serve shows boxes")
    listening = _listen(config.host, config.port)
    with listening:
        host, port = listening.getsockname()[:2]
        print(f"serving {config.weights} at http://{host}:{port} (Ctrl-C ends it)", flush=True)
        settings = uvicorn.Config(build(detector, config), log_level="warning", timeout_keep_alive=5)
        settings.limit_concurrency = config.waiting + 64  # connections, whether they say anything or not
        uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 takes any that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host} --port {port} cannot be listened at: {said}") from error
