"""What the configuration asks for and does not get: told at the start, or a reason not to start."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import attrs

from clonk_core.config.nodes import DEFAULT, Origin, join
from clonk_core.config.settings import Settings
from clonk_core.config.types import fields

EMPTY_KEY_HASH: Final = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing at all: the placeholder of the specification's example."""


@attrs.frozen(kw_only=True)
class Notice:
    """One thing to tell the operator.

    Attributes:
        path: Which setting.
        message: What about it, one sentence.
        origin: Where it was set.
        stops: What must not begin because of it: nothing, listening on a port, or anything at all.
    """

    path: str
    message: str
    origin: Origin
    stops: Literal["nothing", "listening", "everything"] = "nothing"

    def __str__(self) -> str:
        return f"{self.origin}: {self.path}: {self.message}"


def is_loopback(host: str) -> bool:
    """Tell whether an address to bind can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def notices(
    settings: Settings, origins: Mapping[str, Origin], sections: Mapping[str, Any] | None = None
) -> tuple[Notice, ...]:
    """Return everything to tell about these settings, what stops the start first.

    Args:
        settings: The core's part.
        origins: Where each value came from.
        sections: Each package's section by name.
    """
    found = [*_refusals(settings, origins), *_missing(settings, origins), *_not_yet(settings, origins)]
    for name, section in (sections or {}).items():
        found += _in_plain(section, name, origins)
    return tuple(sorted(found, key=lambda notice: notice.stops == "nothing"))


def _refusals(settings: Settings, origins: Mapping[str, Origin]) -> Iterator[Notice]:
    server = settings.server
    if not settings.auth.enabled and not is_loopback(server.host):
        yield Notice(
            path="server.host",
            origin=origins.get("server.host", DEFAULT),
            stops="listening",
            message=f"with auth.enabled: false Clonk does not listen on {server.host}: anyone could run commands on "
            "this machine. Set auth.enabled to true, or use 127.0.0.1 and a tunnel (ssh -L) from elsewhere.",
        )
    if settings.storage.database_url is not None:
        yield Notice(
            path="storage.database_url",
            origin=origins.get("storage.database_url", DEFAULT),
            stops="everything",
            message="Postgres comes in a later version; what is meant for it would be kept elsewhere. Leave it out "
            "to keep everything in storage.data_dir.",
        )


def _missing(settings: Settings, origins: Mapping[str, Origin]) -> Iterator[Notice]:
    folder = settings.plugins.dir
    if folder is not None and not folder.is_dir():
        yield Notice(
            path="plugins.dir",
            origin=origins.get("plugins.dir", DEFAULT),
            message=f"there is no folder {folder}; no single-file plugin is loaded",
        )


def _in_plain(section: Any, path: str, origins: Mapping[str, Origin]) -> Iterator[Notice]:
    """Yield the secrets that stand in the file and that `clonk secrets` could keep."""
    for key, field in fields(type(section)).items():
        at, value = join(path, key), getattr(section, field.name)
        stored_as, origin = field.metadata.get("stored_as"), origins.get(at, DEFAULT)
        if attrs.has(type(value)):
            yield from _in_plain(value, at, origins)
        elif stored_as and value and origin.kind == "file":
            message = f"a secret in plain text; `clonk secrets set {stored_as}` keeps it encrypted, then drop it here"
            yield Notice(path=at, origin=origin, message=message)


def _not_yet(settings: Settings, origins: Mapping[str, Origin]) -> Iterator[Notice]:
    auth = settings.auth
    unused = "auth.enabled is false, and every caller is the local one"
    asked = [
        ("auth.api_keys", auth.api_keys and not auth.enabled, f"keys are not looked at: {unused}"),
        ("auth.jwt", auth.jwt and not auth.enabled, f"tokens are not looked at: {unused}"),
    ]
    for path, value, message in asked:
        if value:
            yield Notice(path=path, message=message, origin=_first(path, origins))
    for index, key in enumerate(auth.api_keys):
        if key.tenant not in (None, "default"):
            path = f"auth.api_keys[{index}].tenant"
            message = "further tenants come in a later version; until then this key reaches nothing"
            yield Notice(path=path, message=message, origin=origins.get(path, DEFAULT))
        if key.secret_hash == EMPTY_KEY_HASH or key.secret_hash.endswith("..."):
            path = f"auth.api_keys[{index}].secret_hash"
            message = "is a placeholder and will never let anyone in"
            yield Notice(path=path, message=message, origin=origins.get(path, DEFAULT))


def _first(path: str, origins: Mapping[str, Origin]) -> Origin:
    """Return where a setting was given, for a section where its first key was."""
    return next((origin for at, origin in origins.items() if at == path or at.startswith(f"{path}.")), DEFAULT)
