"""The web application: the page, its files, the description of its requests, and the errors of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

import yaml
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from detect.commands.serve import ServeConfig
from detect.serve.access import Access, Guard
from detect.serve.responses import JsonAnswer, RequestRejected

STATIC = Path(__file__).with_name("static")


class Service(Protocol):
    """What a server does besides showing its page, a file in `static`: it runs in a context, and answers requests."""

    @property
    def page(self) -> str: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def close(self) -> None: ...

    def routes(self) -> list[Route]: ...


def build(config: ServeConfig, service: Service) -> ASGIApp:
    """The application. Raises UserError for host names and tokens that cannot be used."""
    access, files = Access(config), {path.name for path in STATIC.iterdir()}

    async def page(request: Request) -> Response:
        return access.remember(request.query_params) or FileResponse(STATIC / service.page)

    async def static(request: Request) -> Response:
        if (file := request.path_params["file"]) not in files:
            raise RequestRejected(404, "no such file")
        return FileResponse(STATIC / file)

    async def openapi(_: Request) -> Response:
        return JsonAnswer(api)

    routes = [*service.routes(), Route("/openapi.json", openapi)]
    api = described(routes)
    routes += [Route("/", page), Route("/static/{file}", static)]
    errors = {RequestRejected: _rejected, HTTPException: _no_route, ClientDisconnect: _gone, Exception: _defect}
    return Guard(Starlette(routes=routes, exception_handlers=errors), access)  # type: ignore[arg-type]


def described(routes: list[Route]) -> dict[str, Any]:
    """The OpenAPI document of those requests that are for programs, from `openapi.yaml`, which has all of them."""
    document = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
    paths = [route.path_format for route in routes if route.include_in_schema]
    return document | {"paths": {path: document["paths"][path] for path in paths}}


async def _rejected(_: Request, error: RequestRejected) -> Response:
    return error.response


async def _no_route(_: Request, error: HTTPException) -> Response:
    return JsonAnswer({"error": str(error.detail)}, error.status_code, error.headers)


async def _gone(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)


async def _defect(_: Request, error: Exception) -> Response:
    return JsonAnswer({"error": "this is a defect of the server; its log has the details"}, 500)
