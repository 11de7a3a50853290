"""Tokens of an identity provider: what is let in, what is remembered, and that a refusal tells nothing."""

import contextlib
import itertools
import subprocess
import sys
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clonk_core.errors import Unauthenticated, Unavailable
from clonk_core.gateway import jwt as jwt_room
from clonk_core.gateway.jwt import TokenVerifier, VerifiedToken, open_token_verifier
from tests.core.gateway.tokens import ALGORITHMS, base64url

# What is let in.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_every_algorithm_is_let_in(provider: Any, idp: Any, algorithm: str) -> None:
    key = idp.new_key(algorithm)
    provider.keys = [key.published()]
    async with provider.open() as verifier:
        found = await verifier.verify(provider.token(key=key, scope="arbor:read claudecode:chat@ci-*"))
    assert found == VerifiedToken(
        subject="alice@corp",
        tenant="default",
        scopes=frozenset({"arbor:read", "claudecode:chat@ci-*"}),
        expires_at=provider.now_s + 300,
        token_id="7f0c-once",
    )


async def test_a_key_that_says_nothing_of_its_use_is_taken(provider: Any) -> None:
    provider.keys = [provider.key.published(use=None, alg=None)]
    async with provider.open() as verifier:
        assert (await verifier.verify(provider.token())).subject == "alice@corp"


@pytest.mark.parametrize("audience", ["clonk", ["clonk"], ["other", "clonk"]])
async def test_the_audience_is_a_text_or_one_of_a_list(provider: Any, audience: Any) -> None:
    async with provider.open() as verifier:
        await verifier.verify(provider.token(aud=audience))


async def test_a_token_without_an_id_is_let_in(provider: Any) -> None:
    async with provider.open() as verifier:
        assert (await verifier.verify(provider.token(jti=...))).token_id is None


async def test_a_token_without_a_key_name_is_let_in_when_one_key_fits(provider: Any, idp: Any) -> None:
    nameless = attrs.evolve(provider.key, kid=None)
    provider.keys = [idp.new_key("RS256", "k2").published(), nameless.published()]
    async with provider.open() as verifier:
        await verifier.verify(provider.token(key=nameless))


# The form.


@pytest.mark.parametrize(
    ("credential", "is_one"),
    [
        ("eyJhbGciOiJFUzI1NiJ9.e30.c2ln", True),
        ("a.b.c", True),
        ("a-_9.b.c", True),
        ("clonk_ci_5f2a", False),
        ("a.b", False),
        ("a.b.", False),
        ("a.b.c.d", False),
        ("a.b.c\n", False),
        ("a.b.c=", False),
        ("a.b.é", False),
        ("a..c", False),
        ("", False),
    ],
)
def test_a_token_is_told_from_an_api_key_by_its_form(credential: str, is_one: bool) -> None:
    assert TokenVerifier.looks_like_token(credential) is is_one


async def test_what_is_no_token_is_refused_without_asking_the_provider(provider: Any, idp: Any) -> None:
    head = base64url(b'{"alg":"EdDSA","kid":"k1"}')
    async with provider.open() as verifier:
        for token in ["", "abc", "a.b.c", "é.b.c", "..", f"{head}.e30.", f"{base64url(b'[]')}.e30.c2ln", "\ud800.b.c"]:
            await idp.refusal(verifier, token)
    assert provider.requests == []


async def test_a_token_of_more_than_16_kib_is_refused_before_it_is_read(provider: Any, idp: Any) -> None:
    async with provider.open() as verifier:
        await verifier.verify(provider.token(padding="x" * 8_000))
        assert "16384 bytes" in await idp.refusal(verifier, provider.token(padding="x" * 16_000))


# What is remembered.


async def test_a_remembered_token_expires_by_the_wall_clock(provider: Any, idp: Any) -> None:
    token = provider.token()
    async with provider.open() as verifier:
        assert await verifier.verify(token) is await verifier.verify(token)
        provider.now_s += 329
        await verifier.verify(token)
        provider.now_s += 1
        assert "expired" in await idp.refusal(verifier, token)


async def test_a_clock_that_jumps_lets_no_expired_token_in(provider: Any, idp: Any) -> None:
    token = provider.token()
    async with provider.open() as verifier:
        await verifier.verify(token)
        provider.now_s += 10_000_000
        assert "expired" in await idp.refusal(verifier, token)
        provider.now_s -= 20_000_000
        assert "not valid yet" in await idp.refusal(verifier, token)
        provider.now_s += 10_000_000
        await verifier.verify(token)
        provider.now_s -= 10_000
        assert "not valid yet" in await idp.refusal(verifier, token)
        provider.now_s = float("nan")
        await idp.refusal(verifier, token)


async def test_only_so_many_tokens_are_remembered_those_used_last(
    provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwt_room, "_MAX_REMEMBERED", 3)
    tokens = [provider.token(sub=f"user-{number}") for number in range(4)]
    async with provider.open() as verifier:
        kept = [await verifier.verify(token) for token in tokens[:3]]
        assert await verifier.verify(tokens[0]) is kept[0]
        await verifier.verify(tokens[3])
        assert len(verifier._remembered) == 3
        assert await verifier.verify(tokens[0]) is kept[0]
        assert await verifier.verify(tokens[1]) is not kept[1]


async def test_a_refused_token_is_not_remembered(provider: Any, idp: Any) -> None:
    async with provider.open() as verifier:
        for token in (provider.token(key=idp.new_key()), provider.token(exp=1), provider.token(aud="other")):
            await idp.refusal(verifier, token)
        assert len(verifier._remembered) == 0


async def test_two_verifiers_do_not_notice_each_other(provider: Any, idp: Any) -> None:
    async with provider.open() as one, provider.open(audience="other") as other:
        await one.verify(provider.token())
        await idp.refusal(other, provider.token())
    assert len(provider.requests) == 2


# Whatever comes.

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from([*ALGORITHMS, "none", "HS256"]) | JSON_VALUES},
    optional={"kid": st.sampled_from(["k1", "k2"]) | JSON_VALUES, "crit": JSON_VALUES, "b64": JSON_VALUES},
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope", "org"]), JSON_VALUES
)
EDITS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.text(max_size=3)), max_size=4)


def _mutated(token: str, edits: list[tuple[int, int, str]]) -> str:
    for place, removed, added in edits:
        token = token[:place] + added + token[place + removed :]
    return token


# The fixtures keep nothing from one example to the next.
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(max_size=60), max_size=20),
    headers=st.lists(st.tuples(HEADERS, st.binary(max_size=80)), max_size=10),
    claims=st.lists(CLAIMS, max_size=20),
    edits=st.lists(EDITS, max_size=20),
)
@pytest.mark.deadline(300)
async def test_whatever_comes_is_a_verified_token_or_an_error_of_ours(
    idp: Any, list_log: Any, texts: list[str], headers: list[Any], claims: list[Any], edits: list[Any]
) -> None:
    async with trio.open_nursery() as nursery:
        provider = idp.Provider(list_log)
        await nursery.start(provider.serve)
        tokens = [*texts, *(f"{text}.{text}.{text}" for text in texts)]
        tokens += [provider.key.sign(header, payload) for header, payload in headers]
        tokens += [provider.token(**one) for one in claims]
        async with provider.open(tenant_claim="org.tenant") as strict, provider.open() as verifier:
            for one, token in itertools.product((strict, verifier), tokens):
                with contextlib.suppress(Unauthenticated, Unavailable):
                    assert isinstance(await one.verify(token), VerifiedToken)
            good = provider.token()
            await verifier.verify(good)
            for mutated in {_mutated(good, edit) for edit in edits} - {good}:
                with pytest.raises(Unauthenticated):
                    await verifier.verify(mutated)
        nursery.cancel_scope.cancel()


# Costs.


def test_a_server_without_an_identity_provider_loads_no_cryptography() -> None:
    program = (
        "import sys, clonk_core.gateway.jwt; print([name for name in ('jwt', 'cryptography', 'httpx') if name in "
        "sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


async def test_an_error_inside_comes_out_as_itself(provider: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_token_verifier(provider.settings(), log=provider.log):
            raise ZeroDivisionError
