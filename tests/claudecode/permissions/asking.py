"""A chat that is read up to its permission request, callers of every kind, and what they are told."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from clonk_claudecode.testing.script import Reply, ToolUse
from clonk_core.client.inside import InsideClient
from clonk_core.interfaces.door import Connection
from clonk_core.messages import Caller, CallerKind
from clonk_core.plugin import CallError
from clonk_core.testing.host import TestHost

OpenHub = Callable[..., AbstractAsyncContextManager[TestHost]]

QUESTIONS = {
    "questions": [
        {
            "question": "Which colour?",
            "header": "Colour",
            "multiSelect": False,
            "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}],
        },
        {
            "question": "Which sizes?",
            "header": "Sizes",
            "multiSelect": True,
            "options": [{"label": "Small", "description": "s"}, {"label": "Large", "description": "l"}],
        },
    ]
}


@attrs.define
class AskedTurn:
    """A turn that waits for a permission.

    Attributes:
        events: What it has shown so far.
        request: The event that asks.
        subscription: The run.
    """

    events: list[Any]
    request: Any
    subscription: str
    _stream: Any

    async def until(self, kind: str) -> Any:
        """Read on to the next event of that kind."""
        while True:
            _seq, event = await self._stream.__anext__()
            self.events.append(event)
            if event["type"] == kind:
                return event

    async def rest(self) -> list[Any]:
        """Read to the end and return what came behind the request."""
        with trio.fail_after(60):
            self.events += [event async for _seq, event in self._stream]
        return self.events[self.events.index(self.request) + 1 :]


@asynccontextmanager
async def asked(hub: TestHost, *, name: str = "w", prompt: str = "go", **options: Any) -> AsyncIterator[AskedTurn]:
    """Send a prompt and read up to the request."""
    async with hub.client.stream("claudecode.chat", name=name, prompt=prompt, **options) as stream:
        turn = AskedTurn([], None, stream.subscription, stream)
        with trio.fail_after(60):
            turn.request = await turn.until("permission_request")
        yield turn


def caller(hub: TestHost, caller_id: str, *scopes: str, kind: CallerKind = "key") -> InsideClient:
    """Return a client of somebody's; of one who may do everything, when no scopes are given."""
    who = Caller(id=caller_id, kind=kind, scopes=frozenset(scopes or ("*",)))
    return InsideClient(hub.dispatch, Connection(transport="inside", peer="test", id="conn_test", caller=who))


async def create(hub: TestHost, workspace: Path, name: str = "w", **params: Any) -> None:
    await hub.client.call("claudecode.create", name=name, working_dir=str(workspace), **params)


def bash(command: str) -> Reply:
    return Reply([ToolUse("Bash", {"command": command})])


def write(path: Path, content: str = "x") -> Reply:
    return Reply([ToolUse("Write", {"file_path": str(path), "content": content})])


async def refusal(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


def one(events: list[Any], kind: str) -> Any:
    """Return the only event of a kind."""
    (found,) = [event for event in events if event["type"] == kind]
    return found
