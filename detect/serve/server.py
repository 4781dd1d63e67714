"""The server: uvicorn around the application, with limits on connections, and a shutdown that leaves no files."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from detect.commands.serve import ServeConfig
from detect.serve.access import parse_address
from detect.serve.app import Service, build
from detect.serve.connections import Connection, Connections
from detect.serve.detection import Detection
from detect.utils.interrupt import Interrupt
from detect.utils.names import say

END_SECONDS = 5  # to send the responses that are ready at shutdown


async def run(config: ServeConfig, listening: socket.socket, folder: Path) -> None:
    """Serve until a signal comes, then raise KeyboardInterrupt.

    Args:
        config: the options of `detect serve`.
        listening: the socket to serve at.
        folder: folder for uploads and results.

    Raises:
        UserError: the weights, a host name or the token cannot be used.
    """
    service = _service(config, folder)
    connections = Connections(config.connections, config.seconds + END_SECONDS)
    app = build(config, service)
    async with service:
        _announce(config, listening)
        server = _Server(_settings(app, connections), service, connections)
        watching = asyncio.create_task(connections.watch())
        try:
            await server.serve([listening])
        finally:
            watching.cancel()


def _service(config: ServeConfig, folder: Path) -> Service:
    if not config.run:
        return Detection(config, folder)
    from detect.serve.live import LiveView  # late: it imports torch, which only the workers of a detector need

    return LiveView(config, folder)


def _settings(app: Any, connections: Connections) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(Connection, connections),  # type: ignore[arg-type]  # it is only called
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        proxy_headers=False,  # else any client could choose the address it seems to come from
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=END_SECONDS,
    )


def _announce(config: ServeConfig, listening: socket.socket) -> None:
    """Print the address of the server, and a warning where others can reach it."""
    host, port = listening.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    address = parse_address(host)
    is_open = not (address and address.is_loopback)
    if is_open and not config.token:
        say(f"warning: --host {config.host} lets everybody in who reaches {url}: set a --token", sys.stderr)
    if is_open and not config.allowed_host:
        names = "by its address alone, not by a name: --allowed-host NAME adds one"
        say(f"warning: --host {config.host}: other machines reach this server {names}", sys.stderr)
    say(f"serving {config.weights or ', '.join(config.run)} at {url} (Ctrl-C ends it)", flush=True)


class _Server(uvicorn.Server):
    """A uvicorn server that ends at the signals of `Interrupt`, without waiting for clients."""

    def __init__(self, config: uvicorn.Config, service: Service, connections: Connections) -> None:
        super().__init__(config)
        self.service, self.all = service, connections

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Watch for a signal; raises KeyboardInterrupt after the shutdown."""
        with closing(Interrupt()) as self.interrupt:
            yield
        raise KeyboardInterrupt

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; called ten times a second."""
        return await super().on_tick(counter) or self.interrupt.asked

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close silent connections, and answer the requests in work with one line."""
        self.all.close()
        await self.service.close()
        await super().shutdown(sockets)
