"""`clonk doctor`: is everything there that Clonk needs?"""

import os
import platform
import shutil
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import trio

from clonk_core.app import DEFAULT_TENANT, draw, secret_keys
from clonk_core.boundary import plugin_boundary
from clonk_core.cli.exit_codes import FAILED, OK
from clonk_core.cli.flags import NO_SETTINGS, ConfigFile, SettingFlags
from clonk_core.client.base import ClientError
from clonk_core.client.http import HttpClient
from clonk_core.client.websocket import WebSocketClient
from clonk_core.config.load import Loaded
from clonk_core.config.nodes import DEFAULT, Origin
from clonk_core.config.settings import Settings, TlsSettings
from clonk_core.errors import ConfigError, PluginError, StorageError, Unavailable
from clonk_core.host.discovery import Plugins
from clonk_core.plugin import Check, CheckResult
from clonk_core.storage.open_secrets import look_at_secrets
from clonk_core.transports.listening import open_listeners
from clonk_core.transports.tls import Pair

CHECK_LIMIT_S: Final = 30.0
"""Longest time for one check; one that asks a program for its version takes a second."""

RUNNING_LIMIT_S: Final = 3.0
"""Longest time to find out whether a Clonk is running already."""

_MARKS: Final = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}
_COUNTED: Final = {"failed": "failed", "warning": "to look at"}


async def doctor(*, config: ConfigFile = None, settings: SettingFlags = NO_SETTINGS) -> int:
    """Check that everything is there that Clonk needs, and say what to do where it is not.

    Exit code 1 when something does not work; warnings are none.

    Args:
        config: The configuration file; without it the usual places are searched.
    """
    counts: Counter[str] = Counter()
    async for name, result in _results(config, settings):
        print(f"{_MARKS[result.state]}  {name}: {result.message}", flush=True)
        if result.fix and result.state != "ok":
            print(f"         {result.fix}", flush=True)
        counts[result.state] += 1
    told = [f"{counts[state]} {word}" for state, word in _COUNTED.items() if counts[state]]
    print(", ".join(told) or "everything is there", flush=True)
    return FAILED if counts["failed"] else OK


async def _results(config: ConfigFile, flags: SettingFlags) -> AsyncIterator[tuple[str, CheckResult]]:
    yield "Python", _python()
    blueprint = None
    try:
        blueprint = draw(config, os.environ, flags.given())
    except ConfigError as error:
        fix = "`clonk config check` tells this too; the following looks at the defaults"
        yield "configuration", CheckResult(state="failed", message="; ".join(str(error).splitlines()), fix=fix)
        settings = Settings()
    else:
        settings = blueprint.settings
        for result in _configuration(blueprint.loaded):
            yield "configuration", result
        for result in _plugins(blueprint.plugins):
            yield "plugins", result
    yield "data directory", _data_dir(settings)
    server = settings.server
    if server.tls.enabled:
        yield "server.tls", _tls(server.tls)
    http_client, websocket_client = _clients(secure=server.tls.enabled)
    yield "server.http_port", await _port(server.host, server.http_port, "server.http_port", http_client)
    yield (
        "server.websocket_port",
        await _port(server.host, server.websocket_port, "server.websocket_port", websocket_client),
    )
    yield "git", await _git()
    if blueprint is not None:
        for check in _brought(blueprint.plugins, blueprint.loaded):
            yield check.name, await _bounded(check)


def _python() -> CheckResult:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return CheckResult(state="ok", message=version)
    return CheckResult(state="warning", message=version, fix="Clonk is tested with Python 3.11 to 3.13")


def _configuration(loaded: Loaded) -> Sequence[CheckResult]:
    """Tell where it was read from and what in it does not work yet."""
    where = str(loaded.path) if loaded.path else "no file, all defaults"
    told = [
        CheckResult(state="warning" if notice.stops == "nothing" else "failed", message=str(notice))
        for notice in loaded.notices
    ]
    return [CheckResult(state="ok", message=where), *told]


def _plugins(plugins: Plugins) -> Sequence[CheckResult]:
    names = ", ".join(plugin.name for plugin in plugins.loaded)
    broken = [
        CheckResult(
            state="failed",
            message=f"{status.name}: {status.error}",
            fix="reinstall or mend it, or leave it out with plugins.disabled",
        )
        for status in plugins.statuses
        if status.state == "failed"
    ]
    return [CheckResult(state="ok", message=names or "none"), *broken]


def _data_dir(settings: Settings) -> CheckResult:
    """Try to write a file where the data go, or where their folder would be made."""
    folder = settings.storage.data_dir
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        fix = "choose another with storage.data_dir or --data-dir, or give this user the right to write there"
        return CheckResult(state="failed", message=f"{folder}: {error.strerror or error}", fix=fix)
    message = f"{folder}, {free / 1024**3:.1f} GiB free"
    if free < 1024**3:
        return CheckResult(state="warning", message=message, fix="with a full disk nothing more can be kept")
    return CheckResult(state="ok", message=message)


def _tls(settings: TlsSettings) -> CheckResult:
    """Read the certificate and its key as the server would."""
    try:
        pair = Pair.read(settings)
    except ConfigError as error:
        return CheckResult(state="failed", message=str(error))
    trouble = pair.trouble(datetime.now(UTC))
    if trouble is not None:
        return CheckResult(state="warning", message=trouble, fix="renew it, and send the server SIGHUP")
    return CheckResult(state="ok", message=f"{settings.cert_path}, valid until {pair.valid_until:%Y-%m-%d}")


async def _port(host: str, port: int, setting: str, client: Callable[[str], Any]) -> CheckResult:
    """Try to open the port; when it is taken, ask who is there by `client`, given the host and port of an address."""
    if port == 0:
        return CheckResult(state="ok", message="any free one")
    try:
        listeners, _ = await open_listeners(host, port, setting=setting, loopback_only=False)
    except ConfigError as error:
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if await _is_clonk(client(authority)):
            return CheckResult(state="ok", message=f"{port}, a Clonk is running there")
        return CheckResult(state="failed", message=str(error).removeprefix(f"{setting}: "))
    for listener in listeners:
        await listener.aclose()
    return CheckResult(state="ok", message=f"{port} is free")


async def _is_clonk(client: Any) -> bool:
    with trio.move_on_after(RUNNING_LIMIT_S):
        try:
            async with client:
                report = await client.call("health.check")  # answered also to those without a key
        except ClientError:
            return False
        return isinstance(report, dict) and {"status", "parts"} <= set(report)
    return False


def _clients(*, secure: bool) -> tuple[Callable[[str], HttpClient], Callable[[str], WebSocketClient]]:
    """Return what makes clients that ask whether a Clonk is there and nothing else, so any certificate will do."""
    ending, context = "", None
    if secure:
        ending, context = "s", ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def http_client(authority: str) -> HttpClient:
        return HttpClient(f"http{ending}://{authority}", retries=0, ssl_context=context)

    def websocket_client(authority: str) -> WebSocketClient:
        return WebSocketClient(f"ws{ending}://{authority}/ws", retries=0, ssl_context=context)

    return http_client, websocket_client


async def _git() -> CheckResult:
    path = shutil.which("git")
    if path is None:
        fix = "install git; gitsync and sessions in repositories need it"
        return CheckResult(state="failed", message="not on the path", fix=fix)
    done = await trio.run_process([path, "--version"], capture_stdout=True, capture_stderr=True, check=False)
    if done.returncode:
        return CheckResult(state="failed", message=f"{path} does not run", fix="reinstall git")
    return CheckResult(state="ok", message=done.stdout.decode(errors="replace").strip())


def _brought(plugins: Plugins, loaded: Loaded) -> Sequence[Check]:
    """Return the checks that plugins bring; one whose hook breaks gives a failing check instead."""
    found: list[Check] = []
    secret = _secret_reader(loaded.settings)
    for plugin in plugins.loaded:
        given = {"settings": loaded.sections.get(plugin.name), "secret": secret}
        origin = _origin_teller(plugin.name, loaded)
        try:
            found.extend(plugins.items(plugin, "clonk_checks", Check, setting_origin=origin, **given))
        except PluginError as error:
            found.append(Check(name=plugin.name, function=_failing(str(error))))
    return found


def _secret_reader(settings: Settings) -> Callable[[str], Awaitable[str | None]]:
    folder = settings.storage.data_dir.expanduser().absolute()

    async def read(name: str) -> str | None:
        try:
            async with look_at_secrets(folder, secret_keys(settings, folder)) as store:
                return None if store is None else await store.get(DEFAULT_TENANT, name)
        except (ConfigError, StorageError) as error:
            raise Unavailable(str(error)) from error

    return read


def _origin_teller(plugin: str, loaded: Loaded) -> Callable[[str], Origin]:
    return lambda path: loaded.origins.get(f"{plugin}.{path}", DEFAULT)


def _failing(message: str) -> Any:
    async def fail() -> CheckResult:
        return CheckResult(state="failed", message=message, fix="mend the plugin, or leave it out")

    return fail


async def _bounded(check: Check) -> CheckResult:
    """Run a plugin's check; one that breaks or hangs has failed."""
    try:
        with plugin_boundary(), trio.fail_after(CHECK_LIMIT_S):
            return await check.function()
    except trio.TooSlowError:
        return CheckResult(state="failed", message=f"took longer than {CHECK_LIMIT_S:.0f} s")
    except Exception as error:  # noqa: BLE001 - a plugin's check may raise anything
        return CheckResult(state="failed", message=f"the check itself broke, {type(error).__name__}: {error}")
