"""Access control: the host names of this server, the pages that may call it, and the token.

A web page can make its own name point at this machine (DNS rebinding) and then read the responses. The Host header
shows it: it holds the name of that page. An address in its place cannot be made to point elsewhere.
"""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detect.commands.serve import ServeConfig
from detect.errors import UserError
from detect.serve.responses import SAFE, RequestRejected

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s:/@\[\]]+))(?::\d*)?", re.IGNORECASE)
_BARE = re.compile(r"[0-9a-f:.]+:[0-9a-f:.]*", re.IGNORECASE)  # an IPv6 address without brackets


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """`text` as an IP address, an IPv4 address inside IPv6 as IPv4; None for a name."""
    try:
        address = ip_address(text.split("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def host_name(header: str) -> str:
    """The name or address in a Host header, without port; "" for an invalid one."""
    found = _HOST.fullmatch(header)
    return (found[1] or found[2]).lower().rstrip(".") if found else ""


class Access:
    """The host names and the token of the server. Raises UserError for invalid ones."""

    def __init__(self, config: ServeConfig) -> None:
        self.names = {"localhost", config.host.lower().rstrip(".")} - {""}
        for name in config.allowed_host:
            if not (host_name(name) or _BARE.fullmatch(name)):
                raise UserError(f"--allowed-host {name!r} is not a host: give its name alone, such as box.example.org")
            self.names.add(host_name(name) or name.lower())
        if config.token and not re.fullmatch(r"[!-~]{8,}", config.token):
            raise UserError("--token: use 8 or more letters, digits and signs, without blanks")
        self.token = config.token
        digest = sha256(config.token.encode()).hexdigest()
        self.cookie, self.cookie_name = digest, f"gridhead-{digest[:8]}"  # ports of a host share their cookies

    def require(self, request: HTTPConnection) -> None:
        """Raise RequestRejected for a request under another name, from another site's page, or without the token."""
        host = request.headers.get("host", "")
        name = host_name(host)
        address, own = parse_address(name), parse_address((request.scope.get("server") or ("",))[0])
        if name not in self.names and not (address and (address.is_loopback or address == own)):
            raise RequestRejected(403, f"this server has no name {name[:80]!r}: add it by --allowed-host NAME")
        origin = request.headers.get("origin")
        if origin is not None and origin.split("://")[-1].lower() != host.lower():
            raise RequestRejected(403, "pages of other sites may not call this server")
        if self.token and not self._is_known(request):
            line = "a token is required: open /?token=TOKEN, or send the header Authorization: Bearer TOKEN"
            raise RequestRejected(401, line, {"WWW-Authenticate": "Bearer"})

    def _is_known(self, request: HTTPConnection) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [request.query_params.get("token", ""), bearer.strip() if scheme.lower() == "bearer" else ""]
        known = [compare_digest(one.encode(), self.token.encode()) for one in given]
        return any([*known, compare_digest(request.cookies.get(self.cookie_name, "").encode(), self.cookie.encode())])

    def remember(self, query: QueryParams) -> Response | None:
        """The response to a page opened with ?token=: a cookie takes its place, so that no history keeps it."""
        if not self.token or "token" not in query:
            return None
        response = RedirectResponse("./", 303)
        response.set_cookie(self.cookie_name, self.cookie, httponly=True, samesite="lax")
        return response


class Guard:
    """The application behind `access`, with the headers of `SAFE` on every response, errors too."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name, value) for name, value in message.get("headers", []) if name not in dict(SAFE)]
                message["headers"] = [*own, *SAFE]
            await send(message)

        app = self.app
        try:
            self.access.require(HTTPConnection(scope))
        except RequestRejected as rejected:
            app = rejected.response
        await app(scope, receive, safely)
