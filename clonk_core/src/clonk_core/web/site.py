"""The pages for people, on Quart: for now one that says what runs here and what it can do."""

from collections.abc import Awaitable, Callable
from itertools import groupby
from secrets import token_urlsafe
from typing import Any, Final, cast

from quart import Response, g, render_template, request
from quart_trio import QuartTrio

from clonk_core.errors import CallError
from clonk_core.messages import JsonValue

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_POLICY: Final = (
    "default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Nothing but the page's own style: no script, no frame, nothing from elsewhere."""


def make_site(
    discover: Callable[[Any], Awaitable[tuple[JsonValue, bool]]], *, version: str, with_key: bool = False
) -> QuartTrio:
    """Return the Quart application.

    Args:
        discover: Gives the OpenRPC document for the one whose ASGI scope it is handed, and whether it is known who that
            is.
        version: Shown in the head to whoever is known.
        with_key: Whether calls need a key, which the example then shows.
    """
    site = QuartTrio(__name__)
    site.config["RESPONSE_TIMEOUT"] = None
    site.jinja_env.trim_blocks = site.jinja_env.lstrip_blocks = True

    @site.before_request
    async def choose_nonce() -> None:
        g.nonce = token_urlsafe(16)

    @site.after_request
    async def protect(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce=g.get("nonce", ""))
        return response

    @site.get("/")
    async def home() -> str:
        try:
            document, is_known = await discover(request.scope)
            groups, problem = _by_namespace(document), None
        except CallError as error:
            groups, problem, is_known = [], error.message, False
        return await render_template(
            "home.html",
            version=version if is_known else "",
            with_key=with_key,
            groups=groups,
            problem=problem,
            nonce=g.nonce,
            origin=request.host_url,
        )

    @site.errorhandler(404)
    async def not_found(_error: Exception) -> tuple[str, int]:
        return await render_template("not_found.html", nonce=g.nonce, path=request.path), 404

    return site


def _by_namespace(document: JsonValue) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the methods of an OpenRPC document, grouped by namespace in the order of their names."""

    def namespace(method: dict[str, Any]) -> str:
        return str(method["name"]).rpartition(".")[0]

    methods = sorted(cast("list[dict[str, Any]]", document["methods"]), key=lambda method: str(method["name"]))
    methods.sort(key=namespace)
    return [(name, list(found)) for name, found in groupby(methods, key=namespace)]
