"""A host with arbor, and what tests of its methods share."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from clonk_core.client.inside import InsideClient
from clonk_core.interfaces.door import Connection
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost, open_host
from tests.core.gateway.guarded import secret_of


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[TestHost]:
    async with open_host(tmp_path / "host", packages=["arbor"]) as opened:
        yield opened


@pytest.fixture
async def arbor(host: TestHost) -> "Caller":
    return Caller(host.client)


class Caller:
    """Calls arbor's methods, by their names without the namespace."""

    def __init__(self, client: InsideClient) -> None:
        self.client = client

    async def __call__(self, method: str, /, **params: Any) -> Any:
        return await self.client.call(f"arbor.{method}", **params)

    async def refusal(self, method: str, /, **params: Any) -> CallError:
        with pytest.raises(CallError) as caught:
            await self(method, **params)
        return caught.value

    async def tree(self, *contents: Any, name: str = "t") -> tuple[str, list[str]]:
        """Create a tree that is one path; return its id and those of its nodes."""
        tree_id = await self("tree_create", name=name)
        ids = await self("path_create", tree_id=tree_id, contents=list(contents)) if contents else []
        return tree_id, ids

    async def pages(self, method: str, key: str, limit: int, /, **params: Any) -> list[Any]:
        """Read a list page by page; each page but the last is full, and each entry comes once."""
        found: list[Any] = []
        after: dict[str, Any] = {}
        while page := await self(method, limit=limit, **params, **after):
            assert len(page) <= limit
            found += page
            after = {"after": page[-1][key]}
        assert len({entry[key] for entry in found}) == len(found)
        return found


def caller_of(host: TestHost, key_id: str) -> Caller:
    """Return who calls with a key of `key_settings`."""
    connection = Connection(transport="http", peer="test", id=f"conn_{key_id}", bearer=secret_of(key_id))
    return Caller(InsideClient(host.dispatch, connection))
