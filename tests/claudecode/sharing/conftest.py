"""Several callers at one session."""

from collections.abc import Callable

import pytest

from clonk_core.client.inside import InsideClient
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection
from clonk_core.messages import Caller
from clonk_core.testing.host import TestHost
from tests.claudecode.sessions.conftest import hub, open_hub

__all__ = ["ClientOf", "client_of", "hub", "open_hub"]

ClientOf = Callable[..., InsideClient]


@pytest.fixture
def client_of() -> ClientOf:
    """Give a client of one caller's: `client_of(hub, "ann", "claudecode:read@w")`."""

    def made(hub: TestHost, caller: str, *scopes: str) -> InsideClient:
        who = Caller(id=caller, kind="key", scopes=frozenset(scopes))
        return InsideClient(hub.dispatch, Connection(transport="inside", peer="test", id=new_id("conn"), caller=who))

    return made
