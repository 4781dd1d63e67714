"""The server: uvicorn around the application, with limits on connections, and a shutdown that leaves no files."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from detect.commands.serve import ServeConfig
from detect.serve.access import parse_address
from detect.serve.app import build
from detect.serve.connections import Connection, Connections
from detect.serve.uploads import Uploads
from detect.serve.workers import Workers
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
    most = int(config.max_total_mb * 2**20)
    settings = {name: value for name, value in asdict(config).items() if name != "token"}
    workers = Workers({**settings, "folder": str(folder), "most": most}, config.workers)
    connections = Connections(config.connections, config.seconds + END_SECONDS)
    app = build(config, workers, Uploads(folder, most))
    async with workers:
        _announce(config, listening)
        server = _Server(_settings(app, connections), workers, connections)
        watching = asyncio.create_task(connections.watch())
        try:
            await server.serve([listening])
        finally:
            watching.cancel()


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
    say(f"serving {config.weights} at {url} (Ctrl-C ends it)", flush=True)


class _Server(uvicorn.Server):
    """A uvicorn server that ends at the signals of `Interrupt`, without waiting for clients."""

    def __init__(self, config: uvicorn.Config, workers: Workers, connections: Connections) -> None:
        super().__init__(config)
        self.workers, self.all = workers, connections

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
        await self.workers.close()
        await super().shutdown(sockets)
