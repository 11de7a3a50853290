"""The testing kit: the same test over every transport, and the contract that activations must keep."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from clonk_core.client.base import Client, RemoteError
from clonk_core.plugin import Activation, method
from clonk_core.testing.contract import ContractBroken, check_activation


@attrs.frozen(kw_only=True)
class Roll:
    """One throw.

    Attributes:
        sides: Number of sides of the die.
        value: What it showed.
    """

    sides: int
    value: int


class Dice(Activation):
    """Throw dice that always show their best."""

    namespace = "dice"
    version = "1.0.0"

    @method(scope="read", read_only=True, idempotent=True)
    async def roll(self, sides: int = 6) -> Roll:
        """Throw one die.

        Args:
            sides: Number of sides.
        """
        return Roll(sides=sides, value=sides)

    @method(scope="read", durable=True)
    async def stream(self, count: int, sides: int = 6) -> AsyncIterator[Roll]:
        """Throw many dice, one event each.

        Args:
            count: How many.
            sides: Number of sides.
        """
        for _ in range(count):
            yield await self.roll(sides)

    @method(scope="read")
    async def passing(self, count: int) -> AsyncIterator[Roll]:
        """Throw many dice, for as long as somebody looks.

        Args:
            count: How many.
        """
        for _ in range(count):
            yield await self.roll()


@pytest.fixture
def activations() -> Sequence[Callable[[], Activation]]:
    return [Dice]


async def test_a_plain_call_is_answered_on_every_transport(every_transport: Client) -> None:
    assert await every_transport.call("dice.roll", sides=20) == {"sides": 20, "value": 20}
    assert await every_transport.call("dice.roll", 8) == {"sides": 8, "value": 8}


async def test_an_error_has_its_kind_on_every_transport(every_transport: Client) -> None:
    with pytest.raises(RemoteError) as caught:
        await every_transport.call("dice.roll", sides="six")
    assert caught.value.kind == "invalid_params"
    assert caught.value.data["path"] == "$.sides"
    assert caught.value.data["method"] == "dice.roll"
    assert await every_transport.call("dice.roll") == {"sides": 6, "value": 6}


@pytest.mark.parametrize("name", ["dice.stream", "dice.passing"])
async def test_a_stream_is_whole_on_every_transport(every_transport: Client, name: str) -> None:
    async with every_transport.stream(name, count=1000) as events:
        seen = [event async for event in events]
    assert [event.seq for event in seen] == list(range(1, 1002))
    assert seen[-1].event == {"type": "done", "outcome": "complete", "error": None}


async def test_a_durable_stream_is_resumed_on_every_transport(every_transport: Client) -> None:
    async with every_transport.stream("dice.stream", count=50) as events:
        first = [await events.next() for _ in range(20)]
        subscription = events.subscription
    async with every_transport.resume(subscription, after=20) as events:
        rest = [event async for event in events]
    assert [event.seq for event in first + rest] == list(range(1, 52))


async def test_activations_that_keep_the_contract_pass(tmp_path: Path) -> None:
    await check_activation(Dice, tmp_path, {"dice.stream": {"count": 5}, "dice.passing": {"count": 3}})


class Undescribed(Activation):
    """Does not say what its parameter means."""

    namespace = "undescribed"

    @method(scope="read")
    async def take(self, what: int) -> int:
        """Take it."""
        return what


class Liar(Activation):
    """Returns what it did not promise."""

    namespace = "liar"

    @method(scope="read")
    async def number(self) -> int:
        """Return a number."""
        return "not a number"  # type: ignore[return-value]


class Sharing(Activation):
    """Shares state between realms."""

    namespace = "sharing"
    kept: ClassVar[list[int]] = []

    @method(scope="write")
    async def add(self) -> int:
        """Add one."""
        self.kept.append(1)
        return len(self.kept)

    @method(scope="read", read_only=True, idempotent=True)
    async def count(self) -> int:
        """Count."""
        return len(self.kept)


class SwallowsCancellation(Activation):
    """Fails when it is cancelled."""

    namespace = "swallows"

    @method(scope="read")
    async def stream(self) -> AsyncIterator[int]:
        """Stream."""
        yield 1
        raise ValueError("always broken")


@pytest.mark.parametrize(
    ("activation", "examples", "words"),
    [
        (Undescribed, {"undescribed.take": {"what": 1}}, "description"),
        (Liar, {}, "schema"),
        (Sharing, {"sharing.add": {}}, "shared"),
        (SwallowsCancellation, {}, "fails"),
        (Dice, {"dice.stream": {"count": "x"}}, "example"),
        (Dice, {"dice.no_such": {}}, "no method"),
    ],
)
async def test_activations_that_break_the_contract_are_told_where(
    tmp_path: Path, activation: Callable[[], Activation], examples: Any, words: str
) -> None:
    with pytest.raises(ContractBroken) as caught:
        await check_activation(activation, tmp_path, examples)
    assert words in str(caught.value)
