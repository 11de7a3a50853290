"""Who may knock, and what headers say."""

import pytest

from clonk_core.transports.guard import Guard
from clonk_core.transports.headers import prefers_json
from clonk_core.wire.http_caller import bearer_token


def status(guard: Guard, host: bytes | None, origin: bytes | None = None) -> int:
    refusal = guard.refusal(host, origin)
    return refusal.status if refusal else 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"localhost", 200),
        (b"LOCALHOST.:80", 200),
        (b"127.0.0.1:4445", 200),
        (b"[::1]", 200),
        (b"[0:0:0:0:0:0:0:1]:4445", 200),
        (b"hub.example.com", 200),
        (b"hub.example.com:1234", 200),
        (b"exact.example.com:8443", 200),
        (b"exact.example.com", 421),
        (b"exact.example.com:8444", 421),
        (b"127.0.0.2", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"localhost:80:80", 421),
        (b"localhost@evil.example", 421),
        (b"", 421),
        (b":80", 421),
        (b"[", 421),
        (b"\xff", 421),
        (None, 200),
    ],
)
def test_hosts_are_compared_in_one_spelling(host: bytes | None, expected: int) -> None:
    guard = Guard.build("127.0.0.1", ["hub.example.com", "Exact.example.com:8443"])
    assert status(guard, host) == expected


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (b"http://localhost:3000", True),
        (b"https://127.0.0.1", True),
        (b"http://[::1]:5000", True),
        (b"https://app.example.com", True),
        (b"https://app.example.com:444", False),
        (b"http://app.example.com", False),
        (b"https://evil.example", False),
        (b"http://localhost.evil.example", False),
        (b"http://localhost@evil.example", False),
        (b"http://user@localhost", False),
        (b"http://localhost/path", False),
        (b"file://localhost", False),
        (b"http://[", False),
        (b"null", False),
        (b"", False),
    ],
)
def test_origins_are_the_loopback_s_and_the_listed_ones(origin: bytes, allowed: bool) -> None:
    guard = Guard.build("127.0.0.1", [], ["https://app.example.com/"])
    assert (status(guard, b"localhost", origin) == 200) is allowed


def test_a_star_lets_every_host_pass_but_no_origin_that_is_not_listed() -> None:
    guard = Guard.build("127.0.0.1", ["*"])
    assert status(guard, b"anything.example") == 200
    assert status(guard, b"anything.example", b"https://evil.example") == 403
    assert status(Guard.build("127.0.0.1", [], ["*"]), b"localhost", b"https://any.example") == 200


def test_the_bind_address_is_allowed() -> None:
    assert status(Guard.build("127.0.0.9"), b"127.0.0.9:4445") == 200


@pytest.mark.parametrize(
    ("lines", "token"),
    [
        ([], None),
        ([b"Bearer abc"], "abc"),
        ([b"bearer  abc "], "abc"),
        ([b"Bearer"], None),
        ([b"Basic abc"], None),
        ([b""], None),
        ([b"Bearer abc", b"Bearer abc"], "abc,Bearer abc"),
        ([b"Basic abc", b"Bearer abc"], None),
        ([b"", b"Bearer abc"], None),
    ],
)
def test_only_bearer_credentials_are_read_and_two_are_none(lines: list[bytes], token: str | None) -> None:
    assert bearer_token([(b"host", b"a"), *((b"authorization", line) for line in lines)]) == token


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (None, False),
        (b"", False),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/json;q=0", False),
        (b"text/*, application/json", False),
        (b"application/json;q=0.5, text/event-stream;q=0.4", True),
        (b"*/*;q=0.1, application/json;q=x", True),
        (b",;q=,", False),
    ],
)
def test_json_is_preferred_only_when_it_is_said(accept: bytes | None, json: bool) -> None:
    assert prefers_json(accept) is json
