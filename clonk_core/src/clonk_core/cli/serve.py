"""`clonk serve`: the server."""

import gc
import resource
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from clonk_core.cli.flags import NO_SETTINGS, ConfigFile, SettingFlags
from clonk_core.cli.signals import watched_signals
from clonk_core.cli.start import draw_and_tell

if TYPE_CHECKING:
    from clonk_core.app import Addresses, Blueprint
    from clonk_core.transports.listening import Address

_COLLECT_EVERY: Final = 10_000
"""New objects, deleted ones taken off, between two looks of Python's collector for cycles. With its usual 700, and with
all that was imported looked at again and again, a fifth of a WebSocket call's CPU time went there; ten thousand are at
most a few MiB."""


async def serve(*, config: ConfigFile = None, settings: SettingFlags = NO_SETTINGS) -> int:
    """Run the server until it is told to stop.

    SIGTERM and Ctrl-C stop it in order: calls and streams under way may end within server.shutdown_grace_s; a second
    one stops it at once. SIGHUP reads the certificate again when server.tls is enabled, and stops it otherwise. Logs go
    to standard error.

    Args:
        config: The configuration file; without it the usual places are searched.
    """
    # The host, its databases and its transports take most of a second to import; help must not wait for them.
    from clonk_core.app import make_first_key, open_app, serve_app
    from clonk_core.observe.logs import Logs
    from clonk_core.transports.tls import TlsCertificate

    gc.set_threshold(_COLLECT_EVERY)  # this process is ours alone
    raise_descriptor_limit()
    blueprint = draw_and_tell(config, settings)
    logging = blueprint.settings.logging
    logs = Logs(level=logging.level, format=logging.format)
    certificate = TlsCertificate.of(blueprint.settings.server, log=logs.get("transports"))
    async with watched_signals(certificate.reload if certificate else None) as stopping:
        stopping.allow(blueprint.settings)
        with stopping.start:
            async with open_app(blueprint, logs=logs, listening=True) as app, trio.open_nursery() as nursery:
                serving = partial(serve_app, app, shutdown=stopping.requested, certificate=certificate)
                addresses = await nursery.start(serving)
                stopping.has_started = True
                key = await make_first_key(app)
                gc.freeze()  # what is there now stays
                if sys.stdout.isatty():
                    print(banner(blueprint, addresses), flush=True)
                if key is not None:
                    print(first_key(key, addresses), flush=True)
    return stopping.exit_code


def raise_descriptor_limit() -> None:
    """Take as many file descriptors as this process may have.

    Shells give 1024, so that programs that use select(2) do not break; trio does not, and each connection is one.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says `unlimited` and takes only so many
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def banner(blueprint: "Blueprint", addresses: "Addresses") -> str:
    """Return what a person sees when the server is ready: where it is, and a first call to paste."""
    http, websocket, metrics = addresses.http, addresses.websocket, addresses.metrics
    names = ", ".join(plugin.name for plugin in blueprint.plugins.loaded)
    return "\n".join(
        [
            "",
            "  Clonk is ready",
            "",
            f"  HTTP/SSE    {http.url('http', '/mcp')}",
            f"  WebSocket   {websocket.url('ws', '/ws')}",
            *([f"  Metrics     {metrics.url('http', '/metrics')}"] if metrics else []),
            f"  Data        {blueprint.settings.storage.data_dir}",
            f"  Plugins     {names}",
            "",
            "  Try it in another terminal:",
            "",
            f"    {curl(http, '$CLONK_API_KEY' if blueprint.settings.auth.enabled else None)}",
            f"    clonk methods{_url_flag(http)}",
            "",
            "  Ctrl-C stops it.",
            "",
        ]
    )


def first_key(key: str, addresses: "Addresses") -> str:
    """Return what the operator sees when a first key was made: the key, this once, and a call to paste."""
    return "\n".join(
        [
            "",
            "  There was no API key yet; this one may do everything. It is shown this once and kept nowhere:",
            "",
            f"    export CLONK_API_KEY={key}",
            "",
            f"    {curl(addresses.http, key)}",
            "",
            "  `clonk keys` makes keys that may do less, and takes this one back: clonk keys revoke admin",
            "",
        ]
    )


def curl(http: "Address", key: str | None) -> str:
    """Return a call to paste.

    Args:
        http: Where the server is.
        key: What it is called with; None where no key is needed.
    """
    bearer = "" if key is None else f'-H "Authorization: Bearer {key}" '
    call = '{"jsonrpc":"2.0","method":"hub.info","id":1}'
    return f"curl {http.url('http', '/mcp')} {bearer}-H 'Content-Type: application/json' -d '{call}'"


def _url_flag(http: "Address") -> str:
    """Return the flag that the other commands need to find this server."""
    from clonk_core.cli.flags import DEFAULT_URL

    url = http.url("http")
    return "" if url == DEFAULT_URL else f" --url {url}"
