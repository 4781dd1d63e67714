"""Connections: how many there may be, of one client and in all, and for how long one may keep the server waiting.

A connection is in one of four phases: `head` (a request is awaited), `body` (the rest of one), `work` (the answer is
made) and `answer` (it is sent). In all but `work` it is the client's turn. Where a new connection would be one too
many, the one that has kept the server waiting longest is closed for it, so that silent ones shut nobody out.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_network
from math import inf
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from detect.serving.access import parse_address
from detect.serving.responses import SAFE, Refused

IN_ALL = 256  # connections: with a file for each they stay below the usual limit of 1,024 open files
HEAD_SECONDS, ANSWER_SECONDS = 10.0, 600.0
_PHASES = ("head", "body", "answer")  # the client's turn, what is closed first in front


def client_of(peer: Any) -> str:
    """What counts as one client: an IPv4 address, or the network of 64 bits that one household has of IPv6."""
    address = parse_address(peer[0]) if peer else None
    return str(ip_network((address, 64), strict=False) if isinstance(address, IPv6Address) else address)


class Connections:
    """All open connections; `limits` are the seconds that each phase may last."""

    def __init__(self, of_a_client: int, body_seconds: float) -> None:
        self.of_a_client, self.open = of_a_client, set[Connection]()
        self.limits = {"head": HEAD_SECONDS, "body": body_seconds, "answer": ANSWER_SECONDS}

    def admit(self, new: Connection) -> bool:
        """Whether there is room for `new`, after one that keeps the server waiting was closed for it."""
        same = [one for one in self.open if one.client_name == new.client_name]
        crowd = same if len(same) >= self.of_a_client else self.open
        if len(crowd) >= (self.of_a_client if crowd is same else IN_ALL):
            idle = [one for one in crowd if one.phase in _PHASES]
            if not idle:
                return False
            min(idle, key=lambda one: (_PHASES.index(one.phase), one.heard)).abort()
        self.open.add(new)
        return True

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
            if one.phase in _PHASES:
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
        """Let it in, or say in one line that there are too many."""
        super().connection_made(transport)
        self.client_name = client_of(transport.get_extra_info("peername"))
        if not self.all.admit(self):
            line = f"{self.all.of_a_client} requests of yours are under way: try again later"
            transport.write(_raw(Refused(503, line)))
            transport.close()

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
        self.transport.write(_raw(Refused(400, msg)))
        self.transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self.all.open.discard(self)
        self.transport.abort()


def _raw(refused: Refused) -> bytes:
    """The whole answer, for a connection on which no request was read."""
    body = refused.answer.body
    headers = [*refused.answer.raw_headers, *SAFE, (b"connection", b"close")]
    lines = [f"HTTP/1.1 {refused.status} Refused".encode(), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"", bytes(body)])
