"""An activation that makes every kind of trouble, for the tests of the wire. Loaded from `plugins.dir`."""

from collections.abc import AsyncIterator
from typing import Annotated

import attrs
import trio

from clonk_core import errors
from clonk_core.plugin import Activation, Conflict, Ge, JsonValue, Le, method

RAISED: dict[str, errors.CallError] = {
    "parse_error": errors.ParseError("raised"),
    "invalid_request": errors.InvalidRequest("raised"),
    "method_not_found": errors.MethodNotFound("no.such", near=("such.no",)),
    "invalid_params": errors.InvalidParams("raised", path="$.kind"),
    "unauthenticated": errors.Unauthenticated("raised"),
    "forbidden": errors.Forbidden("raised", scope="trouble:more"),
    "not_found": errors.NotFound("raised"),
    "conflict": errors.Conflict("raised", subscription="sub_other"),
    "too_large": errors.TooLarge("raised", limit=5),
    "rate_limited": errors.RateLimited("raised", retry_after_s=1.5),
    "cancelled": errors.CallCancelled("raised"),
    "unavailable": errors.Unavailable("raised", retry_after_s=3),
    "storage_full": errors.StorageFull("raised"),
    "server_restarted": errors.ServerRestarted("raised"),
    "deadline_exceeded": errors.DeadlineExceeded("raised"),
}


class OwnTrouble(Conflict):
    """Trouble of its own kind."""

    kind = "trouble.own"


@attrs.frozen(kw_only=True)
class Count:
    """One number.

    Attributes:
        number: Which, from 0.
        fill: Nothing but weight.
    """

    number: int
    fill: str = ""


class Trouble(Activation):
    """Makes trouble."""

    namespace = "trouble"
    version = "1.0.0"

    def __init__(self) -> None:
        self._gates: dict[str, trio.Event] = {}
        self._waiting: dict[str, int] = {}

    @method(scope="make")
    async def echo(self, value: JsonValue = None) -> JsonValue:
        """Return the value.

        Args:
            value: Anything.
        """
        return value

    @method(scope="make")
    async def add(self, a: int, b: int = 1) -> int:
        """Add two numbers.

        Args:
            a: One.
            b: The other.
        """
        return a + b

    @method(scope="make", errors=[OwnTrouble])
    async def fail(self, kind: str) -> None:
        """Fail with an error of this kind.

        Args:
            kind: A kind of the table, or `trouble.own`.
        """
        raise OwnTrouble("raised", colour="red") if kind == "trouble.own" else RAISED[kind]

    @method(scope="make")
    async def bug(self) -> None:
        """Fail as a bug does."""
        raise ZeroDivisionError(f"the inside of {__file__}")

    @method(scope="make")
    async def unspeakable(self) -> float:
        """Return a number that JSON has no word for."""
        return float("nan")

    @method(scope="make", deadline_s=0.05)
    async def dawdle(self) -> None:
        """Take longer than allowed."""
        await trio.sleep_forever()

    @method(scope="make", durable=True)
    async def fail_later(self, kind: str) -> AsyncIterator[Count]:
        """Give one event, then fail with an error of this kind.

        Args:
            kind: As of `fail`, or `bug`.
        """
        yield Count(number=0)
        if kind == "bug":
            await self.bug()
        await self.fail(kind)

    @method(scope="make", durable=True)
    async def count(
        self, to: Annotated[int, Ge(0), Le(1_000_000)], fill: Annotated[int, Ge(0), Le(1_000_000)] = 0
    ) -> AsyncIterator[Count]:
        """Count, in a run that is kept.

        Args:
            to: How many events.
            fill: Weight of each, in bytes.
        """
        for number in range(to):
            yield Count(number=number, fill="x" * fill)

    @method(scope="make")
    async def count_once(self, to: Annotated[int, Ge(0), Le(1_000_000)]) -> AsyncIterator[Count]:
        """Count, in a run that ends with its reader.

        Args:
            to: How many events.
        """
        for number in range(to):
            yield Count(number=number)

    @method(scope="make", durable=True)
    async def count_gated(self, gate: str, to: int) -> AsyncIterator[Count]:
        """Give one event, wait for the gate, then count on.

        Args:
            gate: Name of the gate.
            to: How many events there are in the end.
        """
        yield Count(number=0)
        await self._pass(gate)
        for number in range(1, to):
            yield Count(number=number)

    @method(scope="make", durable=True)
    async def flood_gated(self, gate: str, to: int, fill: Annotated[int, Ge(0), Le(1_000_000)]) -> AsyncIterator[Count]:
        """Give one event, wait for the gate, then flood.

        Args:
            gate: Name of the gate.
            to: How many events there are in the end.
            fill: Weight of each, in bytes.
        """
        yield Count(number=0)
        await self._pass(gate)
        for number in range(1, to):
            yield Count(number=number, fill="x" * fill)

    @method(scope="make")
    async def wait(self, gate: str, value: JsonValue = None) -> JsonValue:
        """Wait for the gate, then return the value.

        Args:
            gate: Name of the gate.
            value: Anything.
        """
        await self._pass(gate)
        return value

    @method(scope="make")
    async def waiting(self, gate: str) -> int:
        """Tell how many wait at the gate.

        Args:
            gate: Name of the gate.
        """
        return self._waiting.get(gate, 0)

    @method(scope="make")
    async def release(self, gate: str) -> None:
        """Open the gate.

        Args:
            gate: Name of the gate.
        """
        self._gate(gate).set()

    def _gate(self, gate: str) -> trio.Event:
        return self._gates.setdefault(gate, trio.Event())

    async def _pass(self, gate: str) -> None:
        self._waiting[gate] = self._waiting.get(gate, 0) + 1
        try:
            await self._gate(gate).wait()
        finally:
            self._waiting[gate] -= 1
