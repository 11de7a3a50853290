"""Random requests against a live server: always an answer, never an incident, never a dropped connection."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

METHODS = [
    "rpc.discover",
    "rpc.resume",
    "rpc.cancel",
    "rpc.subscriptions",
    "auth.whoami",
    "auth.authenticate",
    "hub.info",
    "hub.plugins",
    "hub.schema",
    "health.check",
    "arbor.tree_create",
    "arbor.tree_get",
    "arbor.tree_list",
    "arbor.node_create",
    "arbor.node_get",
    "arbor.node_children",
    "arbor.node_ancestors",
    "claudecode.get",
    "claudecode.list",
    "claudecode.delete",
    "claudecode.history",
    "claudecode.interrupt",
    "gitsync.list",
    "gitsync.unregister",
    "trouble.add",
    "trouble.echo",
    "trouble.count",
]
NAMES = ["name", "id", "tree_id", "node_id", "parent_id", "content", "limit", "before", "after", "subscription", "path"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["sub_x", "tree_01k3", "node_01k3", "sess_x", "main", "/workspace", "\u0000", "a.b", "-"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
params = st.one_of(
    st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), values, max_size=4),
    st.lists(values, max_size=4),
    values,
)
requests = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | values, "method": st.sampled_from(METHODS) | st.text(max_size=12) | values},
    optional={"params": params, "id": st.integers() | st.text(max_size=5) | values, "extra": values},
)
messages = st.one_of(requests, requests, requests, st.lists(requests | values, max_size=5), values)


def _kinds(answer: Any) -> set[str]:
    answers = answer if isinstance(answer, list) else [answer]
    return {one["error"]["data"]["kind"] for one in answers if "error" in one}


@pytest.mark.deadline(90)
@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(messages, min_size=1, max_size=8))
async def test_random_requests_never_break_anything(open_websocket: Callable[[], Any], sent: list[Any]) -> None:
    """Each message, then a call of our own: its answer must come, and nothing before it may be an incident."""
    async with open_websocket() as peer:
        with trio.fail_after(20):
            for number, message in enumerate(sent):
                await peer.send(json.dumps(message).encode())
                await peer.send(b'{"jsonrpc":"2.0","method":"hub.info","id":"own %d"}' % number)
                answer = await peer.receive()
                while not (isinstance(answer, dict) and answer.get("id") == f"own {number}"):
                    assert "internal" not in _kinds(answer), message
                    answer = await peer.receive()
                assert answer["result"]["name"] == "clonk"
            assert all("internal" not in _kinds(one) for one in await peer.rest())
