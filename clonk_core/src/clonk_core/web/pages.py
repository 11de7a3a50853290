"""Everything on the HTTP port beside `/mcp`: small documents for programs, and pages for people.

The documents are answered here, so that a health check costs nothing; Quart, which takes half a second to import, is
loaded when somebody first looks at a page.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
import trio

from clonk_core.errors import CallError
from clonk_core.interfaces.door import Dispatch
from clonk_core.messages import JsonValue, Reply, Request
from clonk_core.wire.error_codes import http_status
from clonk_core.wire.http_caller import http_connection
from clonk_core.wire.jsonrpc import error_bytes

ASGIApp = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
"""An ASGI 3 application."""

Check = Callable[[], Awaitable[Mapping[str, str]]]
"""Gives the state of each part of the host: `ok`, or what is wrong."""

_OK: Final = "ok"

_CHECKED_FOR_S: Final = 1.0
"""How long strangers are told what was found, in seconds."""


def make_pages(dispatch: Dispatch, check: Check, *, version: str, for_strangers: bool = False) -> ASGIApp:
    """Return the application that serves every path but `/mcp`.

    Args:
        dispatch: Answers `rpc.discover`, for `/openrpc.json` and the pages.
        check: Decides whether `/ready` says so.
        version: Shown to whoever may know.
        for_strangers: Whether callers must say who they are: then `/health` and `/ready` say yes or no, and the page
            shows the version to those alone who have.
    """
    return _Pages(dispatch, check, version, for_strangers=for_strangers)


class _Pages:
    def __init__(self, dispatch: Dispatch, check: Check, version: str, *, for_strangers: bool) -> None:
        self._dispatch = dispatch
        self._check = check
        self._version = version
        self._for_strangers = for_strangers
        self._documents = {"/health": self._health, "/ready": self._ready, "/openrpc.json": self._openrpc}
        self._loading = trio.Lock()
        self._checked: Mapping[str, str] = {}
        self._checked_s = -math.inf
        self._site: ASGIApp | None = None

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        document = self._documents.get(scope["path"])
        if document is None:
            site = await self._load_site()
            await site(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await _answer(scope, send, 405, b'{"error":"only GET and HEAD"}', [(b"allow", b"GET, HEAD")])
        else:
            status, body = await document(scope)
            await _answer(scope, send, status, body)

    async def _health(self, scope: Any) -> tuple[int, bytes]:
        """The process lives."""
        return 200, orjson.dumps({"status": _OK} | ({} if self._for_strangers else {"version": self._version}))

    async def _ready(self, scope: Any) -> tuple[int, bytes]:
        """Calls can be served: databases are open, plugins are loaded."""
        # For strangers, who may ask as often as they like, the parts are looked at once a second.
        if not self._for_strangers or trio.current_time() >= self._checked_s + _CHECKED_FOR_S:
            self._checked, self._checked_s = await self._check(), trio.current_time()
        found = self._checked
        ready = all(state == _OK for state in found.values())
        document: dict[str, Any] = {"status": "ready" if ready else "not_ready"}
        if not self._for_strangers:
            document["checks"] = dict(found)
        return (200 if ready else 503), orjson.dumps(document)

    async def _openrpc(self, scope: Any) -> tuple[int, bytes]:
        try:
            return 200, (await self._discover(scope))[0]
        except CallError as error:
            return http_status(error), error_bytes(None, error)

    async def _discover(self, scope: Any) -> tuple[bytes, bool]:
        """Return the OpenRPC document as the one who asks may see it, and whether it is known who that is.

        Raises:
            CallError: It is not for them, or not now.
        """
        connection = http_connection(scope, dict(scope["headers"]))
        answer = await self._dispatch(Request(method="rpc.discover", id=None), connection)
        assert isinstance(answer, Reply)  # noqa: S101  (`rpc.discover` is a plain method)
        caller = connection.caller
        return answer.result, not self._for_strangers or (caller is not None and caller.kind != "stranger")

    async def _load_site(self) -> ASGIApp:
        async with self._loading:
            if self._site is None:
                self._site = await trio.to_thread.run_sync(self._import_site)
            return self._site

    def _import_site(self) -> ASGIApp:
        from clonk_core.web.site import make_site

        async def methods(scope: Any) -> tuple[JsonValue, bool]:
            document, is_known = await self._discover(scope)
            return orjson.loads(document), is_known

        site: ASGIApp = make_site(methods, version=self._version, with_key=self._for_strangers)
        return site


async def _answer(
    scope: Any,
    send: Callable[[Any], Awaitable[None]],
    status: int,
    body: bytes,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    all_headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *(headers or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
