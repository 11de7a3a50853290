"""Generated requests against the whole gateway: never an internal error, and no key gets what it does not cover.

10 000 requests in the usual run. As many as wanted, of another seed, and without the end that a stuck test run has:

    export CLONK_ATTACKS=100000 CLONK_ATTACKS_SEED=7
    pytest -o faulthandler_timeout=0 tests/core/gateway/test_attacks_generated.py
"""

import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import orjson
import pytest
import trio

from clonk_core.ids import new_id
from clonk_core.interfaces.door import Connection
from clonk_core.testing.host import TestHost
from clonk_core.transports.doorway import Doorway
from clonk_core.transports.duplex import Duplex
from clonk_core.wire.jsonrpc import Limits
from tests.core.gateway.guarded import OpenGuarded, key_settings, secret_of
from tests.core.gateway.test_matrix import covers

COUNT: Final = int(os.environ.get("CLONK_ATTACKS", "10000"))
SEED: Final = int(os.environ.get("CLONK_ATTACKS_SEED", "20"))

KEYS: Final[dict[str, list[str]]] = {
    "none": [],
    "some": ["arbor:read", "keys:read"],
    "one": ["hub:read"],
    "all": ["*"],
    "narrowed": ["*@ci-*"],
}
ODD: Final[list[Any]] = [
    *(None, True, False, 0, -1, 1.5, 1e300, -(2**63), 2**63, 10**300, 5e-324),
    *("", "ci-1", "x", ".", "..", "../..", "/", "/etc/passwd", "\0", "a\r\nb: c", "\u202e", "ä" * 70, "y" * 70_000),
    *("tree_01k3", "sub_x", "node_", "clonk_all_", "1970-01-01T00:00:00Z", "NaN", "%s%n", "'; drop table x; --", "*"),
    *([], {}, [[]], [None] * 300, {"": ""}, {"__class__": 1}, {"type": "text"}, [{}], {"a": {"b": {"c": []}}}),
]
DANGEROUS: Final = frozenset({"claudecode.create", "claudecode.chat", "claudecode.fork", "claudecode.command"})
"""They would start a program; they are called with a wrong argument beside."""


class Generator:
    """Makes messages, always the same ones of one seed."""

    def __init__(self, methods: list[dict[str, Any]], seed: int) -> None:
        self._random = random.Random(seed)
        self._methods = methods

    def message(self) -> bytes:
        pick = self._random.random()
        if pick < 0.85:
            value: Any = self.request()
        elif pick < 0.93:
            value = [self.request() for _ in range(self._random.randrange(6))]
        else:
            value = self._random.choice([*ODD[:-1], self.value()])
        sent = orjson_or_text(value)
        return self.mutated(sent) if self._random.random() < 0.15 else sent

    def request(self) -> Any:
        one = self._random.choice(self._methods)
        request: dict[str, Any] = {"jsonrpc": "2.0", "method": one["name"], "params": self.params(one)}
        if self._random.random() < 0.9:
            request["id"] = self._random.choice([1, "x", None, 1.5, 2**70, "\r\n", "i" * 300])
        if self._random.random() < 0.15:
            request[self._random.choice(["jsonrpc", "method", "params", "id", "result", "extra"])] = self.value()
        if self._random.random() < 0.05:
            request.pop(self._random.choice(list(request)))
        return request

    def params(self, one: dict[str, Any]) -> Any:
        params: dict[str, Any] = {}
        for parameter in one["params"]:
            if parameter.get("required") or self._random.random() < 0.4:
                params[parameter["name"]] = self.fitting(parameter["schema"])
        if one["name"] in DANGEROUS or self._random.random() < 0.1:
            params["no_such_parameter_"] = self.value()
        return list(params.values()) if self._random.random() < 0.1 and one["name"] not in DANGEROUS else params

    def fitting(self, schema: Any) -> Any:
        """Something of the right kind, two times out of three."""
        if self._random.random() < 0.33 or not isinstance(schema, dict):
            return self.value()
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        kind = schema.get("type")
        strings = [one for one in ODD if isinstance(one, str)]
        made: dict[Any, Any] = {
            "string": self._random.choice(strings),
            "integer": self._random.choice([0, 1, 7, -1, 2**31, 2**63 - 1]),
            "number": self._random.choice([0, 0.5, -1.0, 1e300]),
            "boolean": self._random.random() < 0.5,
            "array": [self._random.choice(strings) for _ in range(self._random.randrange(3))],
            "object": {},
        }
        return made.get(kind if isinstance(kind, str) else None, self.value())

    def value(self) -> Any:
        return self._random.choice(ODD)

    def mutated(self, sent: bytes) -> bytes:
        """Change, cut, double or put in some bytes."""
        found = bytearray(sent)
        for _ in range(self._random.randrange(1, 4)):
            place = self._random.randrange(len(found) + 1)
            pick = self._random.randrange(4)
            if pick == 0:
                found[place : place + 1] = self._random.randbytes(1)
            elif pick == 1:
                del found[place : place + self._random.randrange(1, 20)]
            elif pick == 2:
                found[place:place] = found[max(0, place - 20) : place]
            else:
                found[place:place] = self._random.choice([b"\\ud800", b'"', b"}", b"[", b"1e999", b"\xff", b",", b"\\"])
        return bytes(found)


def orjson_or_text(value: Any) -> bytes:
    """JSON, of integers beyond 64 bit too."""
    import json

    return json.dumps(value).encode()


class Attacker:
    """One connection with a key: all that lies behind a socket."""

    def __init__(self, host: TestHost, key_id: str | None) -> None:
        self._connection = Connection(transport="websocket", peer="test", id=new_id("conn"), address="127.0.0.1")
        self._connection.bearer = None if key_id is None else secret_of(key_id)
        self._doorway = Doorway(host.dispatch, host.app.logs.get("attack"))

    async def send(self, messages: Iterable[bytes], check: Callable[[bytes, list[Any]], None]) -> None:
        """Send one message after the other, each when the one before is answered, and have each answer checked."""
        waiting = deque(messages)
        answers: list[bytes] = []
        sent: bytes | None = None
        duplex: Duplex

        async def collect(messages: Sequence[bytes]) -> None:
            answers.extend(messages)

        def check_last() -> None:
            nonlocal sent
            if sent is not None:
                check(sent, [orjson.loads(answer) for answer in answers])
            sent = None
            answers.clear()

        async def next_message() -> bytes | None:
            nonlocal sent
            with trio.move_on_after(0.1) as within:
                await duplex.wait_quiet()
            if within.cancelled_caught:
                return None  # calls are worked to their end, and a stream that has none is left
            check_last()
            sent = waiting.popleft() if waiting else None
            return sent

        while waiting:
            limits = Limits(message_bytes=10 * 2**20, batch_items=100)
            duplex = Duplex(self._doorway, self._connection, collect, limits)
            await duplex.run(next_message, linger_s=0)
            check_last()


def flat(answers: list[Any]) -> list[Any]:
    return [one for answer in answers for one in (answer if isinstance(answer, list) else [answer])]


def results_of(answers: list[Any]) -> bool:
    return any("result" in one for one in flat(answers))


def method_of(sent: bytes) -> str | None:
    """The method of a single request whose answer can be told to be its own."""
    try:
        value = orjson.loads(sent)
    except orjson.JSONDecodeError:
        return None
    return value.get("method") if isinstance(value, dict) and isinstance(value.get("method"), str) else None


@pytest.mark.deadline(60 + COUNT / 50)
async def test_no_generated_request_breaks_anything_or_gets_what_its_key_does_not_cover(
    open_guarded: OpenGuarded,
) -> None:
    keys = [key_settings(key_id, scopes) for key_id, scopes in KEYS.items()]
    keys.append(key_settings("foreign", tenant="other"))
    packages = ["arbor", "gitsync", "claudecode"]
    kinds: Counter[str] = Counter()
    async with open_guarded(*keys, packages=packages, settings={"logging": {"level": "info"}}) as host:
        methods = (await host.client.call("rpc.discover"))["methods"]
        by_name = {one["name"]: one for one in methods}
        generator = Generator(methods, SEED)
        narrowing: set[str] = set()

        def note_narrowing(sent: bytes, answers: list[Any]) -> None:
            shown = answers[0]["result"]["methods"]
            narrowing.update(one["name"] for one in shown if not one["x-clonk-target"])

        await Attacker(host, "narrowed").send([b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}'], note_narrowing)

        def check(key_id: str | None, sent: bytes, answers: list[Any]) -> None:
            for one in flat(answers):
                kind = one["error"]["data"]["kind"] if "error" in one else "ok"
                kinds[kind] += 1
                assert kind != "internal", (sent[:2000], one)
            called = by_name.get(method_of(sent) or "")
            if called is not None and results_of(answers):
                check_allowed(key_id, called, narrowing, sent)

        # Side by side, so that one is served while another's call waits for a thread: half of the time.
        names = (*KEYS, "foreign", None)
        messages = [generator.message() for _ in range(COUNT)]
        async with trio.open_nursery() as nursery:
            for place, key_id in enumerate(names):
                mine = messages[place :: len(names)]
                nursery.start_soon(Attacker(host, key_id).send, mine, partial(check, key_id))
        log = host.log_text
    assert '"exception"' not in log
    assert "Traceback" not in log
    # The generator reaches what it is meant to reach.
    assert kinds.keys() >= {"ok", "forbidden", "invalid_params", "invalid_request", "parse_error", "unauthenticated"}
    assert kinds["ok"] > COUNT / 50
    print(f"{COUNT} messages: {dict(kinds.most_common())}")


def check_allowed(key_id: str | None, called: dict[str, Any], narrowing: set[str], sent: bytes) -> None:
    """Assert that a key may have had a result of this method."""
    if key_id is None:
        assert called["x-clonk-anonymous"], sent
    elif key_id == "foreign":
        raise AssertionError(sent)
    elif key_id == "narrowed":
        # Its target is one of its own, or it is one of those that look at each target themselves.
        target = called["x-clonk-target"]
        assert called["x-clonk-scope"] is None or target or called["name"] in narrowing, sent
        assert not target or called["x-clonk-scope"] is None or b"ci-1" in sent, sent
    else:
        assert called["x-clonk-scope"] is None or any(covers(scope, called) for scope in KEYS[key_id]), sent
