"""Who is behind the proxies: what is believed of `X-Forwarded-For` and `X-Forwarded-Proto`, and where it is used."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio_websocket import open_websocket_url

from clonk_core.transports.addresses import ClientAddress, Proxies
from clonk_core.wire.http_caller import peer_name

CALL = {"jsonrpc": "2.0", "method": "test.echo", "id": 1}
TRUSTED = ("10.0.0.0/8", "127.0.0.1", "2001:db8:1::/48")


def found(peer: str, *lines: str, networks: Sequence[str] = TRUSTED) -> str:
    headers = [(b"x-forwarded-for", line.encode()) for line in lines]
    return Proxies.build(networks).client(peer, [(b"host", b"localhost"), *headers]).address


@pytest.mark.parametrize("peer", ["203.0.113.9", "2001:db8:2::1", "unknown"])
def test_from_anyone_else_the_headers_mean_nothing(peer: str) -> None:
    headers = [(b"x-forwarded-for", b"192.0.2.1"), (b"x-forwarded-proto", b"https")]
    assert Proxies.build(TRUSTED).client(peer, headers) == ClientAddress(address=peer, secure=None)


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert found("127.0.0.1", "192.0.2.1", networks=()) == "127.0.0.1"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "10.0.0.1"),
        (["192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1, 10.0.0.2,10.0.0.3"], "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        (["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
        # Several lines are one list.
        (["6.6.6.6", "192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        (["6.6.6.6, 192.0.2.1", "10.0.0.2"], "192.0.2.1"),
    ],
)
def test_the_first_one_from_the_right_that_is_no_proxy_is_the_client(lines: list[str], client: str) -> None:
    assert found("10.0.0.1", *lines) == client


@pytest.mark.parametrize(
    ("entry", "client"),
    [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8:2::1", "2001:db8:2::1"),
        ("2001:DB8:2:0:0::1", "2001:db8:2::1"),
        ("[2001:db8:2::1]", "2001:db8:2::1"),
        ("[2001:db8:2::1]:4711", "2001:db8:2::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:4711", "192.0.2.1"),
        ("  192.0.2.1\t", "192.0.2.1"),
    ],
)
def test_ports_brackets_and_spellings_of_an_address(entry: str, client: str) -> None:
    assert found("10.0.0.1", entry) == client
    assert found("10.0.0.1", f"6.6.6.6, {entry}, 2001:db8:1::9, [2001:db8:1::8]:80, ::ffff:10.0.0.2") == client


def test_a_proxy_that_is_seen_as_a_mapped_address_is_the_same_one() -> None:
    assert found("::ffff:10.0.0.1", "192.0.2.1") == "192.0.2.1"
    assert found("::ffff:10.0.0.1", "192.0.2.1", networks=["::ffff:10.0.0.0/104"]) == "192.0.2.1"
    assert found("10.0.0.1", "192.0.2.1", networks=["::ffff:10.0.0.0/104"]) == "192.0.2.1"
    assert found("::ffff:192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize(
    "garbage",
    ["", "unknown", "_hidden", "192.0.2.1:", "192.0.2.1:http", "192.0.2.1:²", "192.0.2.256", "192.0.2.01", "[::1", "[]",
     "[2001:db8::1]80", "[192.0.2.1", "fe80::1%eth0", "192.0.2.1 192.0.2.2", "\xff", "1:2", "::1::"],
)  # fmt: skip
def test_what_is_no_address_ends_the_walk_at_the_last_one(garbage: str) -> None:
    assert found("10.0.0.1", f"6.6.6.6, {garbage}, 10.0.0.2") == "10.0.0.2"
    assert found("10.0.0.1", f"6.6.6.6, {garbage}") == "10.0.0.1"


def test_no_more_than_fifty_entries_are_looked_at() -> None:
    proxies = ", ".join(f"10.0.1.{number}" for number in range(50))
    assert found("10.0.0.1", f"192.0.2.1, {proxies}") == "10.0.1.0"
    assert found("10.0.0.1", "192.0.2.1, " + proxies.partition(", ")[2]) == "192.0.2.1"


def test_of_a_very_long_header_only_whole_entries_at_its_end_count() -> None:
    entries = f"192.0.2.1, {' ' * 5000}10.0.0.2"
    assert found("10.0.0.1", entries) == "10.0.0.1"
    for padding in range(20):  # an address that is cut in two is not taken for another one
        assert found("10.0.0.1", f"192.0.2.1,{' ' * (4096 - 20 + padding)}10.0.0.2") in {
            "10.0.0.1",
            "10.0.0.2",
            "192.0.2.1",
        }


@given(value=st.binary(max_size=200), lines=st.integers(0, 3))
def test_no_header_breaks_it(value: bytes, lines: int) -> None:
    proxies = Proxies.build(TRUSTED)
    headers = [(name, value) for name in (b"x-forwarded-for", b"x-forwarded-proto") for _ in range(lines)]
    assert proxies.client("10.0.0.1", headers).address


@pytest.mark.parametrize(
    ("forwarded_for", "forwarded_proto", "secure"),
    [
        ("192.0.2.1", "", None),
        ("192.0.2.1", "https", True),
        ("192.0.2.1", "HTTPS", True),
        ("192.0.2.1", "wss", True),
        ("192.0.2.1", "http", False),
        ("192.0.2.1", "gopher", None),
        # Each proxy has appended what it was called by; the one that the client called counts.
        ("192.0.2.1, 10.0.0.2", "https, http", True),
        ("192.0.2.1, 10.0.0.2", "http, https", False),
        # The client's own words, before those of the proxy that it called.
        ("192.0.2.1", "https, http", False),
        ("192.0.2.1, 10.0.0.2", "https, http, http", False),
        # Only one of the proxies writes it.
        ("192.0.2.1, 10.0.0.2", "https", True),
        ("", "https", True),
    ],
)
def test_the_scheme_that_the_client_s_own_proxy_saw(
    forwarded_for: str, forwarded_proto: str, secure: bool | None
) -> None:
    headers = [(b"x-forwarded-for", forwarded_for.encode()), (b"x-forwarded-proto", forwarded_proto.encode())]
    assert Proxies.build(TRUSTED).client("10.0.0.1", headers).secure is secure


def test_a_scope_is_left_alone_without_proxies() -> None:
    scope = {"client": ("127.0.0.1", 5), "headers": [(b"x-forwarded-for", b"192.0.2.1")], "scheme": "http"}
    assert Proxies.build(()).see_through(scope) is scope
    seen = Proxies.build(TRUSTED).see_through(scope)
    assert seen["client"] == ("192.0.2.1", 0)
    assert scope["client"] == ("127.0.0.1", 5)


@pytest.mark.parametrize(
    ("address", "port", "name"),
    [
        ("192.0.2.1", 80, "192.0.2.1:80"),
        ("2001:db8::1", 80, "[2001:db8::1]:80"),
        ("192.0.2.1", 0, "192.0.2.1"),
        ("", 0, "unknown"),
    ],
)
def test_how_the_log_names_a_peer(address: str, port: int, name: str) -> None:
    assert peer_name(address, port) == name


# ── over real connections ────────────────────────────────────────────────────


@pytest.mark.parametrize(("trusted", "client"), [(["127.0.0.0/8"], "192.0.2.1"), ([], "127.0.0.1")])
async def test_calls_over_http_bear_the_client_s_address(serving: Any, trusted: list[str], client: str) -> None:
    async with serving(trusted_proxies=tuple(trusted)) as served, httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{served.http_url}/mcp", json=CALL, headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.1"})
        assert answer.status_code == 200
        connection = served.door.connections[0]
        assert connection.address == client
        assert connection.peer.partition(":")[0] == client


@pytest.mark.parametrize(("trusted", "client"), [(["127.0.0.0/8"], "192.0.2.1"), ([], "127.0.0.1")])
async def test_a_websocket_bears_the_client_s_address(serving: Any, trusted: list[str], client: str) -> None:
    headers = [(b"X-Forwarded-For", b"6.6.6.6"), (b"X-Forwarded-For", b"192.0.2.1, 127.0.0.9")]
    async with serving(trusted_proxies=tuple(trusted)) as served:
        async with open_websocket_url(served.websocket_url, extra_headers=headers) as socket:
            await socket.send_message('{"jsonrpc":"2.0","method":"test.echo","id":1}')
            await socket.get_message()
            connection = served.door.connections[0]
            assert connection.address == client
            assert connection.peer.partition(":")[0] == client
        await trio.aclose_forcefully(socket._stream)


async def test_pages_learn_of_the_client_and_of_the_scheme_it_used(serving: Any) -> None:
    scopes = []

    async def pages(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    async with serving(trusted_proxies=("127.0.0.1",), pages=pages) as served:
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.get(served.http_url, headers=headers)
            await http.get(served.http_url)
    assert [(scope["client"][0], scope["scheme"]) for scope in scopes] == [
        ("192.0.2.1", "https"),
        ("127.0.0.1", "http"),
    ]
