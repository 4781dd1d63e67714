"""`detect serve`: start the workers, then serve until interrupted."""

from __future__ import annotations

import asyncio
import socket

from detect.config.options import ServeConfig
from detect.errors import UserError
from detect.utils.atomic_io import temporary_folder


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
