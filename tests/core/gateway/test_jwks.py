"""The identity provider's keys: when they are fetched, and what becomes of tokens when they cannot be."""

import json
from typing import Any

import pytest
import trio
import trio.testing

from clonk_core.errors import Unauthenticated, Unavailable

MIB = 1024 * 1024


async def _verified(verifier: Any, *tokens: str) -> None:
    for token in tokens:
        await verifier.verify(token)


# When keys are fetched.


async def test_nothing_is_fetched_before_the_first_token(provider: Any) -> None:
    async with provider.open() as verifier:
        await trio.testing.wait_all_tasks_blocked()
        assert provider.requests == []
        await _verified(verifier, provider.token(), provider.token(sub="bob"))
    assert len(provider.requests) == 1


async def test_keys_are_fetched_again_when_they_are_old(provider: Any, ages: trio.testing.MockClock) -> None:
    async with provider.open(keys_max_age_s=20, keys_min_age_s=5) as verifier:
        await verifier.verify(provider.token())
        ages.jump(15)
        await verifier.verify(provider.token())
        assert len(provider.requests) == 1
        ages.jump(6)
        await verifier.verify(provider.token())
    assert len(provider.requests) == 2


async def test_a_new_key_is_found_but_not_sooner_than_the_floor(
    provider: Any, idp: Any, ages: trio.testing.MockClock
) -> None:
    new = idp.new_key(kid="k2")
    async with provider.open(keys_min_age_s=10) as verifier:
        await verifier.verify(provider.token())
        provider.keys.append(new.published())
        assert "again in 10 s" in await idp.refusal(verifier, provider.token(key=new))
        assert len(provider.requests) == 1
        ages.jump(11)
        await verifier.verify(provider.token(key=new))
        for kid in range(20):
            await idp.refusal(verifier, provider.token(header={"kid": f"unknown-{kid}"}))
    assert len(provider.requests) == 2


async def test_a_key_that_was_taken_away_stops_working(provider: Any, idp: Any, ages: trio.testing.MockClock) -> None:
    new = idp.new_key(kid="k2")
    token = provider.token()
    async with provider.open(keys_max_age_s=10, keys_min_age_s=5) as verifier:
        await verifier.verify(token)
        provider.keys = [new.published()]
        await verifier.verify(token)
        ages.jump(11)
        await idp.refusal(verifier, token)
        await verifier.verify(provider.token(key=new))


async def test_a_refresh_for_one_token_ends_the_remembered_ones_of_a_key_that_is_gone(
    provider: Any, idp: Any, ages: trio.testing.MockClock
) -> None:
    new = idp.new_key(kid="k2")
    token = provider.token()
    async with provider.open(keys_min_age_s=5) as verifier:
        await verifier.verify(token)
        provider.keys = [new.published()]
        ages.jump(6)
        await verifier.verify(provider.token(key=new))
        await idp.refusal(verifier, token)


async def test_another_key_of_the_same_name_ends_the_remembered_tokens(
    provider: Any, idp: Any, ages: trio.testing.MockClock
) -> None:
    token = provider.token()
    async with provider.open(keys_max_age_s=10, keys_min_age_s=5) as verifier:
        await verifier.verify(token)
        provider.key = idp.new_key()
        provider.keys = [provider.key.published()]
        ages.jump(11)
        await idp.refusal(verifier, token)
        await verifier.verify(provider.token())


async def test_a_provider_without_keys_lets_nobody_in(provider: Any, idp: Any, ages: trio.testing.MockClock) -> None:
    token = provider.token()
    async with provider.open(keys_max_age_s=10, keys_min_age_s=5) as verifier:
        await verifier.verify(token)
        provider.keys = []
        ages.jump(11)
        await idp.refusal(verifier, token)
    assert provider.log.told("warning") == ["the identity provider has no usable key"]


# When the provider is down.


async def test_the_last_keys_are_used_while_the_provider_is_down(
    provider: Any, idp: Any, ages: trio.testing.MockClock
) -> None:
    async with provider.open(keys_max_age_s=10, keys_min_age_s=5) as verifier:
        await verifier.verify(provider.token())
        provider.answer = b""
        ages.jump(11)
        await _verified(verifier, provider.token(), provider.token(sub="bob"), provider.token(sub="carol"))
        assert len(provider.requests) == 2
        assert provider.log.told("warning") == ["keys of the identity provider not fetched"]
        provider.answer = None
        provider.keys = [idp.new_key(kid="k2").published()]
        ages.jump(6)
        await verifier.verify(provider.token())
        await provider.wait_asked(3)
        await _until_refused(verifier, provider.token())


async def _until_refused(verifier: Any, token: str) -> None:
    """Wait until the fetch in the background has brought the news; the test's deadline bounds it."""
    try:
        while True:
            await verifier.verify(token)
            await trio.testing.wait_all_tasks_blocked()
    except Unauthenticated:
        return


async def test_nobody_waits_for_a_provider_that_is_known_to_be_down(
    provider: Any, ages: trio.testing.MockClock
) -> None:
    async with provider.open(keys_max_age_s=10, keys_min_age_s=5) as verifier:
        await verifier.verify(provider.token())
        provider.answer = b""
        ages.jump(11)
        await verifier.verify(provider.token())
        provider.gate = trio.Event()
        ages.jump(6)
        await _verified(verifier, provider.token(), provider.token(sub="bob"))
        await provider.wait_asked(3)
        await _verified(verifier, provider.token(), provider.token(sub="carol"))
    assert len(provider.requests) == 3


async def test_without_keys_tokens_cannot_be_verified_and_attempts_have_a_floor(
    provider: Any, ages: trio.testing.MockClock
) -> None:
    provider.answer = b""
    async with provider.open(keys_min_age_s=10) as verifier:
        for number in range(5):
            with pytest.raises(Unavailable) as caught:
                await verifier.verify(provider.token(sub=f"user-{number}"))
            assert "again in 10 s" in caught.value.message
            assert provider.uri not in caught.value.message
        assert len(provider.requests) == 1
        provider.answer = None
        ages.jump(11)
        await verifier.verify(provider.token())
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1/keys", "https://127.0.0.1:1/keys", "http://[::1", "http://a..b/", "http://xn--/"]
)
async def test_a_provider_that_cannot_be_reached_makes_tokens_unverifiable(provider: Any, uri: str) -> None:
    async with provider.open(jwks_uri=uri) as verifier:
        with pytest.raises(Unavailable):
            await verifier.verify(provider.token())
    assert provider.log.told("warning") == ["keys of the identity provider not fetched"]


# What a fetch takes.


def _bad_answers(http_answer: Any, keys: bytes) -> dict[str, bytes]:
    return {
        "nothing": b"",
        "no HTTP": b"\xff" * 100,
        "cut": http_answer(keys)[:-1],
        "not found": http_answer(keys, "404 Not Found"),
        "another good status": http_answer(keys, "203 Non-Authoritative Information"),
        "no content": http_answer(b"", "204 No Content"),
        "failure": http_answer(keys, "500 Internal Server Error"),
        "empty": http_answer(b""),
        "a page": http_answer(b"<html>"),
        "invalid UTF-8": http_answer(keys.replace(b"k1", b"\xff\xff")),
        "compressed": http_answer(b"\x1f\x8b\x08\x00", "200 OK", "Content-Encoding: gzip"),
        "deep": http_answer(b'{"keys":' + b"[" * 100_000),
        "a list": http_answer(b"[]"),
        "no keys": http_answer(b'{"key": []}'),
        "keys that are no list": http_answer(b'{"keys": {"k1": {}}}'),
        "too many keys": http_answer(json.dumps({"keys": [{}] * 100 + json.loads(keys)["keys"]}).encode()),
        "more than 1 MiB": http_answer(keys + b" " * MIB),
        "more than 1 MiB without a length": b"HTTP/1.1 200 OK\r\n\r\n" + keys + b" " * (5 * MIB),
        "a long header that is none": b"HTTP/1.1 200 OK\r\n" + b"\xff" * 5_000 + b"\r\n\r\n",
        "endless headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000,
    }


@pytest.mark.parametrize("name", _bad_answers(lambda *_: b"", b'{"keys": []}'))
async def test_an_answer_that_is_no_key_set_is_a_failed_fetch(
    provider: Any, idp: Any, ages: trio.testing.MockClock, name: str
) -> None:
    provider.answer = _bad_answers(idp.http_answer, json.dumps({"keys": provider.keys}).encode())[name]
    async with provider.open(keys_min_age_s=5) as verifier:
        with pytest.raises(Unavailable):
            await verifier.verify(provider.token())
        [(_, _, members)] = provider.log.records
        assert members["uri"] == provider.uri
        assert len(members["reason"]) <= 200
        provider.answer = None
        ages.jump(6)
        await verifier.verify(provider.token())


async def test_an_answer_of_1_mib_with_100_keys_is_taken(provider: Any, idp: Any) -> None:
    keys = json.dumps({"keys": [{}] * 99 + provider.keys}).encode()
    provider.answer = idp.http_answer(keys + b" " * (MIB - len(keys)))
    async with provider.open() as verifier:
        await verifier.verify(provider.token())


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_not_followed(provider: Any, idp: Any, list_log: Any, status: str) -> None:
    async with trio.open_nursery() as nursery:
        private = idp.Provider(list_log)
        await nursery.start(private.serve)
        private.keys = provider.keys
        body = json.dumps({"keys": provider.keys}).encode()
        provider.answer = idp.http_answer(body, status, f"Location: {private.uri}")
        async with provider.open() as verifier:
            with pytest.raises(Unavailable):
                await verifier.verify(provider.token())
        assert len(provider.requests) == 1
        assert private.requests == []
        nursery.cancel_scope.cancel()


async def test_no_proxy_of_the_environment_is_asked(
    provider: Any, idp: Any, list_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        proxy = idp.Provider(list_log)
        await nursery.start(proxy.serve)
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.uri.removesuffix("/keys"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with provider.open() as verifier:
            await verifier.verify(provider.token())
        assert proxy.requests == []
        nursery.cancel_scope.cancel()


async def test_a_provider_that_never_answers_is_given_up(provider: Any) -> None:
    provider.gate = trio.Event()
    async with provider.open(fetch_timeout_s=0.2) as verifier:
        with pytest.raises(Unavailable):
            await verifier.verify(provider.token())
    [(level, _, members)] = provider.log.records
    assert (level, members["reason"]) == ("warning", "no whole answer within 0.2 s")


async def test_an_answer_in_drops_is_given_up(list_log: Any, provider: Any) -> None:
    async def drip(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while True:
                    await stream.send_all(b" ")
                    await trio.testing.wait_all_tasks_blocked(0.01)
            except trio.BrokenResourceError:
                return

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, drip, listeners)
        uri = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        async with provider.open(jwks_uri=uri, fetch_timeout_s=0.2) as verifier:
            with pytest.raises(Unavailable):
                await verifier.verify(provider.token())
        nursery.cancel_scope.cancel()


# Many at once.


async def test_many_tokens_at_once_make_one_fetch(provider: Any) -> None:
    provider.gate = trio.Event()
    async with provider.open() as verifier, trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(verifier.verify, provider.token(sub=f"user-{number}"))
        await provider.wait_asked(1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        provider.gate.set()
    assert len(provider.requests) == 1


async def test_one_who_goes_away_does_not_break_the_fetch_for_the_others(provider: Any) -> None:
    provider.gate = trio.Event()
    async with provider.open() as verifier:
        async with trio.open_nursery() as nursery:
            first = trio.CancelScope()
            nursery.start_soon(_verify_within, first, verifier, provider.token())
            await provider.wait_asked(1)
            nursery.start_soon(verifier.verify, provider.token(sub="bob"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            first.cancel()
            await trio.testing.wait_all_tasks_blocked(0.01)
            provider.gate.set()
        assert first.cancelled_caught
        await verifier.verify(provider.token())
    assert len(provider.requests) == 1


async def test_a_fetch_goes_on_when_everybody_went_away(provider: Any) -> None:
    provider.gate = trio.Event()
    async with provider.open() as verifier:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_verify_within, scope, verifier, provider.token())
            await provider.wait_asked(1)
            scope.cancel()
        provider.gate.set()
        await verifier.verify(provider.token())
    assert len(provider.requests) == 1


async def test_a_verifier_closes_while_the_provider_is_silent(provider: Any) -> None:
    provider.gate = trio.Event()
    with trio.fail_after(5):
        async with provider.open() as verifier, trio.open_nursery() as nursery:
            nursery.start_soon(verifier.verify, provider.token())
            await provider.wait_asked(1)
            nursery.cancel_scope.cancel()


async def _verify_within(scope: trio.CancelScope, verifier: Any, token: str) -> None:
    with scope:
        await verifier.verify(token)
