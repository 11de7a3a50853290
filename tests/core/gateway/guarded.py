"""Hosts that ask who calls, and keys for them."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from clonk_core.testing.host import TestHost, open_host


def key_settings(key_id: str, scopes: Any = ("*",), **more: Any) -> dict[str, Any]:
    """An entry of `auth.api_keys` whose key is `secret-<id>`."""
    digest = hashlib.sha256(secret_of(key_id).encode()).hexdigest()
    return {"id": key_id, "secret_hash": f"sha256:{digest}", "scopes": list(scopes), **more}


def secret_of(key_id: str) -> str:
    return f"clonk_{key_id}_of-the-test"


OpenGuarded = Callable[..., AbstractAsyncContextManager[TestHost]]


def guarded_in(folder: Path) -> OpenGuarded:
    """Return what opens hosts with their data below a folder."""

    @asynccontextmanager
    async def open_one(*keys: dict[str, Any], auth: Any = None, **options: Any) -> AsyncIterator[TestHost]:
        settings = {
            "auth": {
                "api_keys": list(keys),
                "stranger_limit": None,
                "max_failure_delay_s": 0,
                "key_check_s": 0.05,
                **(auth or {}),
            },
            **options.pop("settings", {}),
        }
        async with open_host(folder / "data", settings=settings, **options) as host:
            yield host

    return open_one
