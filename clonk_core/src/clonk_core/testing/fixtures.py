"""Pytest fixtures of the testing kit, found by pytest through the `pytest11` entry point.

Override the fixture `activations` (classes to host), `packages` (installed plugins to load) or `settings` (what stands
in `clonk.yaml`) in a test module or conftest; `host`, `client` and `every_transport` then give a real host with them.
They need pytest-trio; without it, only the plain ones are there.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from clonk_core.client.base import Client
    from clonk_core.client.inside import InsideClient
    from clonk_core.plugin import Activation
    from clonk_core.testing.host import TestHost


@pytest.fixture
def activations() -> "Sequence[Callable[[], Activation]]":
    """Activation classes to host; override it."""
    return ()


@pytest.fixture
def packages() -> Sequence[str]:
    """Names of installed plugins to load beside the core; override it."""
    return ()


@pytest.fixture
def settings() -> Mapping[str, Any]:
    """What stands in `clonk.yaml`; override it."""
    return {}


try:
    from pytest_trio import trio_fixture  # type: ignore[import-untyped]
except ImportError:  # the kit is installed where nobody tests on trio
    pass
else:

    @trio_fixture  # type: ignore[untyped-decorator]
    async def host(
        tmp_path: Path,
        activations: "Sequence[Callable[[], Activation]]",
        packages: Sequence[str],
        settings: Mapping[str, Any],
    ) -> "AsyncIterator[TestHost]":
        """A real host on temporary storage."""
        from clonk_core.testing.host import open_host

        async with open_host(
            tmp_path / "data", activations=activations, packages=packages, settings=settings
        ) as opened:
            yield opened

    @trio_fixture  # type: ignore[untyped-decorator]
    async def client(host: "TestHost") -> "InsideClient":
        """Calls through the whole gateway of `host`, without a socket."""
        return host.client

    @pytest.fixture(params=["http", "websocket", "stdio"])
    def transport(request: pytest.FixtureRequest) -> str:
        """Each transport in turn."""
        return str(request.param)

    @trio_fixture  # type: ignore[untyped-decorator]
    async def every_transport(host: "TestHost", transport: str) -> "AsyncIterator[Client]":
        """A client of `host` over a real socket or pipe: the same test over HTTP, WebSocket and stdio."""
        from clonk_core.testing.serving import connected

        async with connected(host, transport) as opened:
            yield opened
