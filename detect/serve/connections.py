"""Limits on connections: how many a client may hold, how many there are in all, and how long each may be silent.

A connection is in one of four phases: `head` (waiting for a request), `body` (receiving the rest of it), `work`
(computing the response) and `answer` (sending it). In all but `work` it is the client's turn. Where there are too many
connections, those that have been silent longest are closed, so that silent ones shut nobody out.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_network
from math import inf
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from detect.serve.access import parse_address
from detect.serve.responses import SAFE, RequestRejected

IN_ALL = 256  # connections: with one file each they stay below the usual limit of 1,024 open files
HEAD_SECONDS, ANSWER_SECONDS = 10.0, 600.0
PATIENCE = 0.5  # seconds that a new connection may be silent before it can be closed
CLIENTS_TURN = ("head", "body", "answer")


def client_of(peer: Any) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, as one household has it."""
    address = parse_address(peer[0]) if peer else None
    return str(ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address)


class Connections:
    """All open connections.

    Args:
        of_a_client: most connections of one client.
        body_seconds: longest time to receive a request.
    """

    def __init__(self, of_a_client: int, body_seconds: float) -> None:
        self.of_a_client, self.open = of_a_client, set[Connection]()
        self.limits = {"head": HEAD_SECONDS, "body": body_seconds, "answer": ANSWER_SECONDS}

    def admit(self, new: Connection) -> None:
        """Add a connection; where it is one too many, `trim` them after giving each the time to speak."""
        self.open.add(new)
        if len(self.open) > IN_ALL:
            self.trim(new.client_name)
        elif sum(one.client_name == new.client_name for one in self.open) > self.of_a_client:
            asyncio.get_running_loop().call_later(PATIENCE, self.trim, new.client_name)

    def trim(self, client: str) -> None:
        """Close the connections too many that have been silent longest: of a client, then of all.

        Of a client only those that are older than PATIENCE, since it may have opened many more in the meantime.
        """
        quiet_since = asyncio.get_running_loop().time() - PATIENCE
        same = {one for one in self.open if one.client_name == client}
        for crowd, most, latest in ((same, self.of_a_client, quiet_since), (self.open, IN_ALL, inf)):
            waiting = [one for one in crowd if one.phase in CLIENTS_TURN and one.heard <= latest]
            waiting.sort(
                key=lambda one: (one.phase == "answer", one.heard)
            )  # while it receives a response a client is silent
            for one in waiting[: max(0, len(crowd) - most)]:
                one.abort()

    async def watch(self) -> None:
        """Close connections whose phase lasts too long; runs until cancelled."""
        while True:
            await asyncio.sleep(1)
            now = asyncio.get_running_loop().time()
            for one in list(self.open):
                if one.lasted(now) > self.limits.get(one.phase, inf):
                    one.abort()

    def close(self) -> None:
        """Close all connections but those whose response is being computed."""
        for one in list(self.open):
            if one.phase in CLIENTS_TURN:
                one.abort()


class Connection(H11Protocol):
    """A connection of uvicorn that is counted among the `connections`."""

    def __init__(self, connections: Connections, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.all, self.client_name = connections, ""
        self.heard = self.began = self.loop.time()
        self.last: tuple[str, Any] = ("head", None)

    @property
    def phase(self) -> str:
        """The phase, as the module describes them."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return "head"
        if cycle.response_started:
            return "answer"
        return "body" if cycle.more_body else "work"

    def lasted(self, now: float) -> float:
        """The seconds that this phase of this request has lasted, as far as it was observed."""
        current = (self.phase, self.cycle)
        if current != self.last:
            self.last, self.began = current, now
        return now - self.began

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection."""
        super().connection_made(transport)
        self.client_name = client_of(transport.get_extra_info("peername"))
        self.all.admit(self)

    def data_received(self, data: bytes) -> None:
        """Note the time of the last data."""
        self.heard = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no more."""
        self.all.open.discard(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Respond to data that is not HTTP, with the headers of all responses."""
        answer = RequestRejected(400, msg).response
        headers = [*answer.raw_headers, *SAFE, (b"connection", b"close")]
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers), b"", answer.body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.all.open.discard(self)
        self.transport.abort()
