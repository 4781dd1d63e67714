"""Connections: how many there may be, of one client and in all, and for how long one may keep the server waiting.

A connection is in one of four phases: `head` (a request is awaited), `body` (the rest of one), `work` (the answer is
made) and `answer` (it is sent). In all but `work` it is the client's turn. Where there are too many connections, those
that have kept the server waiting longest are closed, so that silent ones shut nobody out.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_network
from math import inf
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from detect.serve.access import parse_address
from detect.serve.responses import SAFE, Refused

IN_ALL = 256  # connections: with a file for each they stay below the usual limit of 1,024 open files
HEAD_SECONDS, ANSWER_SECONDS = 10.0, 600.0
PATIENCE = 0.5  # seconds: of connections that come at once, the first are no more silent than the last
CLIENTS_TURN = ("head", "body", "answer")


def client_of(peer: Any) -> str:
    """What counts as one client: an IPv4 address, or the network of 64 bits that one household has of IPv6."""
    address = parse_address(peer[0]) if peer else None
    return str(ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address)


class Connections:
    """All open connections; `limits` are the seconds that each phase may last."""

    def __init__(self, of_a_client: int, body_seconds: float) -> None:
        self.of_a_client, self.open = of_a_client, set[Connection]()
        self.limits = {"head": HEAD_SECONDS, "body": body_seconds, "answer": ANSWER_SECONDS}

    def admit(self, new: Connection) -> None:
        """Take a connection in; where it is one too many, `trim` once those that have something to say have said it."""
        self.open.add(new)
        if len(self.open) > IN_ALL:
            self.trim(new.client_name)
        elif sum(one.client_name == new.client_name for one in self.open) > self.of_a_client:
            asyncio.get_running_loop().call_later(PATIENCE, self.trim, new.client_name)

    def trim(self, client: str) -> None:
        """Close the connections too many that have kept the server waiting longest: of a client, then of all.

        Of a client only those that had PATIENCE to speak, since it may have opened many more in the meantime.
        """
        quiet_since = asyncio.get_running_loop().time() - PATIENCE
        same = {one for one in self.open if one.client_name == client}
        for crowd, most, latest in ((same, self.of_a_client, quiet_since), (self.open, IN_ALL, inf)):
            waiting = [one for one in crowd if one.phase in CLIENTS_TURN and one.heard <= latest]
            waiting.sort(key=lambda one: (one.phase == "answer", one.heard))  # who is answered has nothing to say
            for one in waiting[: max(0, len(crowd) - most)]:
                one.abort()

    async def watch(self) -> None:
        """Close what keeps the server waiting for too long, again and again."""
        while True:
            await asyncio.sleep(1)
            now = asyncio.get_running_loop().time()
            for one in list(self.open):
                if one.lasted(now) > self.limits.get(one.phase, inf):
                    one.abort()

    def close(self) -> None:
        """Close all but those whose answer is made."""
        for one in list(self.open):
            if one.phase in CLIENTS_TURN:
                one.abort()


class Connection(H11Protocol):
    """One of the `connections`; else as uvicorn has it."""

    def __init__(self, connections: Connections, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.all, self.client_name = connections, ""
        self.heard = self.began = self.loop.time()
        self.last: tuple[str, Any] = ("head", None)

    @property
    def phase(self) -> str:
        """Whose turn it is, and for what: see the module."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return "head"
        if cycle.response_started:
            return "answer"
        return "body" if cycle.more_body else "work"

    def lasted(self, now: float) -> float:
        """The seconds that this phase of this request has been seen to last."""
        current = (self.phase, self.cycle)
        if current != self.last:
            self.last, self.began = current, now
        return now - self.began

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in."""
        super().connection_made(transport)
        self.client_name = client_of(transport.get_extra_info("peername"))
        self.all.admit(self)

    def data_received(self, data: bytes) -> None:
        """Note that something was said."""
        self.heard = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.all.open.discard(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, with the headers of all answers."""
        answer = Refused(400, msg).answer
        headers = [*answer.raw_headers, *SAFE, (b"connection", b"close")]
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers), b"", answer.body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self.all.open.discard(self)
        self.transport.abort()
