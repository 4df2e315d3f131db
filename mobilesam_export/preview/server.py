"""The preview's server: its page and its two questions, to this machine's browser only.

It listens on 127.0.0.1. Every address begins with a secret token, so that other users of the
machine cannot guess it; the `Host` must be 127.0.0.1 (a foreign name that resolves to it is
refused); and what asks for an answer must come from the page itself (`Origin`). Files are served
from a fixed list, never by path.
"""

import asyncio
import json
import secrets
import socket
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from mobilesam_export.errors import MobileSamExportError, UsageError
from mobilesam_export.preview.pair import Pair, parse_prompt, read_upload

HOST = "127.0.0.1"
MAX_BYTES = 200_000_000  # of an uploaded image file
OWN, SAMPLE = "mobilesam_export.preview", "mobilesam_export.bundle.samples"
FILES = {  # address -> package, file, media type
    "": (OWN, "page/index.html", "text/html"),
    "preview.js": (OWN, "page/preview.js", "text/javascript"),
    "view.js": (SAMPLE, "web/view.js", "text/javascript"),
    "style.css": (SAMPLE, "web/style.css", "text/css"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "X-Content-Type-Options": "nosniff",
}

Answer = Callable[[Request], Awaitable[Response]]


def listen(port: int = 0) -> socket.socket:
    """A listening socket on 127.0.0.1.

    Args:
        port: 0 for any that is free.

    Raises:
        UsageError: the port is in use or not allowed.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as exc:
        listener.close()
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise UsageError(
            f"cannot listen on port {port} ({reason}); choose another --port, or none for any"
        ) from exc
    listener.listen()
    return listener


def address(listener: socket.socket, token: str) -> str:
    """What to open in a browser."""
    return f"{origin(listener)}/{token}/"


def origin(listener: socket.socket) -> str:
    """The only origin whose pages are answered."""
    return f"http://{HOST}:{listener.getsockname()[1]}"


def new_token() -> str:
    """128 random bits."""
    return secrets.token_urlsafe(16)


def serve(listener: socket.socket, app: Starlette) -> None:
    """Answer until Ctrl-C."""
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])


def make_app(pair: Pair, about: dict[str, Any], token: str, own_origin: str) -> Starlette:
    """The application.

    Args:
        pair: both predictors.
        about: what the page says of the bundle.
        token: the first part of every address.
        own_origin: see `origin`.
    """
    pages = _Pages(pair, about)
    routes = [
        Route("/about", pages.about),
        Route("/image", pages.image),
        Route("/image", _from_page(pages.set_image, own_origin), methods=["POST"]),
        Route("/segment", _from_page(pages.segment, own_origin), methods=["POST"]),
        Route("/", _file),
        Route("/{name}", _file),
    ]
    return Starlette(
        routes=[Mount(f"/{token}", routes=routes)],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST], www_redirect=False),
        ],
        exception_handlers={MobileSamExportError: _explain},
    )


class _Pages:
    """The answers that need the models, computed one at a time."""

    def __init__(self, pair: Pair, about: dict[str, Any]) -> None:
        self._pair, self._about = pair, about
        self._turn = asyncio.Lock()

    async def _computed(self, call: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        async with self._turn:
            return await run_in_threadpool(call, *arguments)

    async def about(self, _: Request) -> Response:
        return JSONResponse(self._about)

    async def image(self, _: Request) -> Response:
        return Response(await self._computed(self._pair.image_png), media_type="image/png")

    async def set_image(self, request: Request) -> Response:
        content = await _body(request)
        self._about["image"] = await self._computed(
            lambda: self._pair.set_image(read_upload(content))
        )
        return JSONResponse(self._about["image"])

    async def segment(self, request: Request) -> Response:
        try:
            asked = json.loads(await _body(request))
        except ValueError as exc:
            raise UsageError("that is no prompt: not JSON") from exc
        return JSONResponse(await self._computed(self._pair.segment, parse_prompt(asked)))


class _Headers:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 an ASGI application
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        async def send_with_headers(message: Any) -> None:  # noqa: ANN401
            if message["type"] == "http.response.start":
                added = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _from_page(answer: Answer, own_origin: str) -> Answer:
    """The same, for requests of the page itself only; browsers say where each POST comes from."""

    async def guarded(request: Request) -> Response:
        if request.headers.get("origin") != own_origin:
            return PlainTextResponse("Only the preview's own page is answered", 403)
        return await answer(request)

    return guarded


async def _file(request: Request) -> Response:
    entry = FILES.get(request.path_params.get("name", ""))
    if entry is None:
        return PlainTextResponse("Not found", 404)
    package, name, kind = entry
    return Response((resources.files(package) / name).read_bytes(), media_type=kind)


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            raise UsageError(f"the file has over {MAX_BYTES // 1_000_000} MB; save a smaller one")
    return bytes(content)


async def _explain(_: Request, exc: Exception) -> Response:
    return JSONResponse({"error": str(exc)}, 400)
