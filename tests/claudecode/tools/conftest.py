"""A hub with small activations whose methods sessions are given."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import attrs
import pytest
import trio

from clonk_claudecode.testing.scripted_model import ScriptedModel
from clonk_core.client.inside import InsideClient
from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection
from clonk_core.plugin import Activation, Call, Caller, CallError, Conflict, Ge, Host, JsonValue, Le, method
from clonk_core.testing.host import TestHost, open_host
from tests.claudecode.sessions.conftest import claudecode_settings
from tests.core.gateway.guarded import key_settings, secret_of

__all__ = ["House", "OpenHouse", "activations_of", "key_settings", "tool_results"]


class Loaded(Conflict):
    """The dice are loaded."""

    kind = "dice.loaded"


class Dice(Activation):
    """Dice, and what else can become of a call."""

    namespace = "dice"

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.begun = trio.Event()
        self.cancelled = trio.Event()
        self.one = trio.Event()
        self.both = trio.Event()
        self._waiting = 0

    @method(scope="read", read_only=True)
    async def roll(self, call: Call, sides: Annotated[int, Ge(2), Le(1000)] = 6) -> dict[str, int]:
        """Throw one die.

        Args:
            sides: Number of sides, 2 to 1000.
        """
        self.callers.append(call.caller)
        if sides == 13:
            raise Loaded("a die of 13 sides always shows 13")
        return {"sides": sides, "value": sides - 1}

    @method(scope="read", read_only=True)
    async def meet(self, number: int) -> str:
        """Wait until two are here.

        Args:
            number: Which of them.
        """
        self._waiting += 1
        self.one.set()
        if self._waiting == 2:
            self.both.set()
        await self.both.wait()
        return f"met {number}"

    @method(scope="write")
    async def hang(self) -> str:
        """Take for ever."""
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    @method(scope="read", durable=True)
    async def stream(self, count: int) -> AsyncIterator[str]:
        """Throw many.

        Args:
            count: How many.
        """
        for number in range(count):
            yield f"throw {number}"

    @method(scope="read")
    async def shout(self, length: int) -> str:
        """Say a long word.

        Args:
            length: Of how many letters.
        """
        return "ä" * length


class Meddler(Activation):
    """Calls whatever it is told to, for whoever calls it."""

    namespace = "meddler"

    def __init__(self, host: Host) -> None:
        self._host = host
        self.asked = trio.Event()
        self.request_id = ""
        self.tried = trio.Event()

    @method(scope="read", read_only=True)
    async def approve(self) -> JsonValue:
        """Wait for a permission request, and allow it."""
        await self.asked.wait()
        try:
            return await self.call("claudecode.permit", {"request_id": self.request_id, "decision": "allow"})
        finally:
            self.tried.set()

    @method(scope="read")
    async def call(self, method_name: str, params: dict[str, JsonValue]) -> JsonValue:
        """Call another activation.

        Args:
            method_name: Its method.
            params: The arguments.
        """
        try:
            return await self._host.call(method_name, **params)
        except CallError as error:
            return f"REFUSED {error.kind}"


@attrs.frozen(kw_only=True)
class House:
    """An open hub, its dice, and clients."""

    hub: TestHost
    dice: Dice
    meddlers: list[Meddler]
    workspace: Path

    @property
    def local(self) -> InsideClient:
        return self.hub.client

    def key(self, key_id: str, secret: str | None = None) -> InsideClient:
        """A client with a key."""
        connection = Connection(
            transport="http",
            peer="test",
            id=new_id("conn"),
            address="127.0.0.1",
            bearer=secret or secret_of(key_id),
        )
        return InsideClient(self.hub.dispatch, connection)

    async def create(self, client: InsideClient | None = None, name: str = "w", **params: Any) -> Any:
        client = client or self.local
        return await client.call("claudecode.create", name=name, working_dir=str(self.workspace), **params)

    async def chat(self, client: InsideClient | None = None, name: str = "w") -> list[Any]:
        """Say something; the turn must end well."""
        events = await (client or self.local).events("claudecode.chat", name=name, prompt="go")
        assert events[-1]["outcome"] == "complete", events[-1]
        return events

    async def rows(self, **filters: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self.local.call("audit.query", after=0, **filters)
        return rows


OpenHouse = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def open_house(tmp_path: Path, model: ScriptedModel, claude: object, workspace: Path) -> OpenHouse:
    """Open a hub on the test's data directory; again after it was closed, to restart it."""

    @asynccontextmanager
    async def opened(
        *,
        allowed: Sequence[str] = ("dice.*", "meddler.*"),
        keys: Sequence[dict[str, Any]] = (),
        tools: dict[str, Any] | None = None,
        packages: Sequence[str] = ("claudecode",),
        **changes: Any,
    ) -> AsyncIterator[House]:
        dice = Dice()
        meddlers: list[Meddler] = []

        def meddler(host: Host) -> Activation:
            meddlers.append(Meddler(host))
            return meddlers[0]

        settings = {
            "auth": {"api_keys": list(keys), "stranger_limit": None, "max_failure_delay_s": 0},
            "claudecode": claudecode_settings(model, tools={"allowed": list(allowed), **(tools or {})}, **changes),
            "workspaces": {"roots": [str(workspace)]},
        }
        activations: list[Callable[..., Activation]] = [lambda: dice, meddler]
        async with open_host(tmp_path / "data", packages=packages, activations=activations, settings=settings) as hub:
            yield House(hub=hub, dice=dice, meddlers=meddlers, workspace=workspace)

    return opened


@pytest.fixture
async def house(open_house: OpenHouse) -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


def activations_of(house: House, namespace: str) -> set[Any]:
    """The activation of a namespace."""
    methods = house.hub.app.realm.registry.methods
    return {getattr(one.function, "__self__") for one in methods if one.namespace == namespace}  # noqa: B009


def tool_results(events: list[Any]) -> list[tuple[str, bool]]:
    """What the tools of a turn gave: text and whether it is an error."""
    found = []
    for event in events:
        if event["type"] == "tool_result":
            content = event["content"]
            text = content if isinstance(content, str) else "".join(block.get("text", "") for block in content)
            found.append((text, event["is_error"]))
    return found
