"""Tokens of an identity provider: what is let in, what is refused, and that a refusal tells nothing."""

import base64
import contextlib
import hmac
import itertools
import json
import subprocess
import sys
from typing import Any

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clonk_core.errors import Unauthenticated, Unavailable
from clonk_core.gateway import jwt as jwt_room
from clonk_core.gateway.jwt import TokenVerifier, VerifiedToken, open_token_verifier

ALGORITHMS = ["RS256", "ES256", "EdDSA"]


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


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
    head = _b64(b'{"alg":"EdDSA","kid":"k1"}')
    async with provider.open() as verifier:
        for token in ["", "abc", "a.b.c", "é.b.c", "..", f"{head}.e30.", f"{_b64(b'[]')}.e30.c2ln", "\ud800.b.c"]:
            await idp.refusal(verifier, token)
    assert provider.requests == []


async def test_a_token_of_more_than_16_kib_is_refused_before_it_is_read(provider: Any, idp: Any) -> None:
    async with provider.open() as verifier:
        await verifier.verify(provider.token(padding="x" * 8_000))
        assert "16384 bytes" in await idp.refusal(verifier, provider.token(padding="x" * 16_000))


# Algorithms and keys.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_public_key_is_no_shared_secret(provider: Any, idp: Any, algorithm: str) -> None:
    key = idp.new_key(algorithm)
    provider.keys = [key.published()]
    secrets = [
        key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(key.published()).encode(),
        b"",
    ]
    message = _b64(b'{"alg":"HS256","kid":"k1"}') + "." + _b64(json.dumps(provider.claims()).encode())
    async with provider.open() as verifier:
        for secret in secrets:
            signature = hmac.digest(secret, message.encode(), "sha256")
            await idp.refusal(verifier, f"{message}.{_b64(signature)}")


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "", None, 5, ["EdDSA"], {"EdDSA": 1}, "Ed25519", "HS256"]
)
async def test_other_algorithms_are_refused(provider: Any, idp: Any, algorithm: Any) -> None:
    async with provider.open() as verifier:
        assert "algorithm" in await idp.refusal(verifier, provider.token(header={"alg": algorithm}))
    assert provider.requests == []


async def test_an_unsigned_token_is_refused(provider: Any, idp: Any) -> None:
    unsigned = _b64(b'{"alg":"none","kid":"k1"}') + "." + _b64(json.dumps(provider.claims()).encode()) + "."
    async with provider.open() as verifier:
        await idp.refusal(verifier, unsigned)
        await idp.refusal(verifier, unsigned + "c2ln")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("claimed", ALGORITHMS)
async def test_the_algorithm_must_be_that_of_the_key(provider: Any, idp: Any, algorithm: str, claimed: str) -> None:
    key = idp.new_key(algorithm)
    provider.keys = [key.published(alg=None)]
    async with provider.open() as verifier:
        token = provider.token(key=key, header={"alg": claimed})
        if claimed == algorithm:
            await verifier.verify(token)
        else:
            await idp.refusal(verifier, token)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_algorithm_that_is_not_in_the_settings_is_refused(provider: Any, idp: Any, algorithm: str) -> None:
    key = idp.new_key(algorithm)
    provider.keys = [key.published()]
    others = tuple(one for one in ALGORITHMS if one != algorithm)
    async with provider.open(algorithms=others) as verifier:
        assert ", ".join(others) in await idp.refusal(verifier, provider.token(key=key))


@pytest.mark.parametrize("published", ["RS512", "PS256", "HS256", "ES256", "Ed25519", 5, ["EdDSA"]])
async def test_a_key_that_is_published_for_another_algorithm_is_not_used(
    provider: Any, idp: Any, published: Any
) -> None:
    for key in (provider.key, idp.new_key("RS256", "k2")):
        provider.keys = [key.published(alg=published)]
        async with provider.open() as verifier:
            await idp.refusal(verifier, provider.token(key=key))


@pytest.mark.parametrize(
    "crit",
    [["b64"], ["exp"], [], "exp", None, ["http://example.com/UNDEFINED"]],  # RFC 7515, section 4.1.11
)
async def test_a_token_with_critical_extensions_is_refused(provider: Any, idp: Any, crit: Any) -> None:
    head = {"alg": "EdDSA", "kid": "k1", "crit": crit, "b64": True, "exp": 1}
    async with provider.open() as verifier:
        await idp.refusal(verifier, provider.key.sign(head, json.dumps(provider.claims()).encode()))


@pytest.mark.parametrize("kid", [5, ["k1"], {"k1": 1}, True])
async def test_a_key_name_that_is_no_text_is_refused(provider: Any, idp: Any, kid: Any) -> None:
    async with provider.open() as verifier:
        await idp.refusal(verifier, provider.token(header={"kid": kid}))


async def test_keys_that_a_token_brings_along_are_not_used(provider: Any, idp: Any, list_log: Any) -> None:
    evil = idp.new_key()
    async with trio.open_nursery() as nursery:
        other = idp.Provider(list_log)
        await nursery.start(other.serve)
        other.keys = [evil.published()]
        async with provider.open() as verifier:
            for header in ({"jwk": evil.published()}, {"jku": other.uri}, {"x5u": other.uri}):
                await idp.refusal(verifier, provider.token(key=evil, header=header))
        assert other.requests == []
        nursery.cancel_scope.cancel()


async def test_a_signature_of_another_key_of_that_name_is_refused(provider: Any, idp: Any) -> None:
    async with provider.open() as verifier:
        assert "signature" in await idp.refusal(verifier, provider.token(key=idp.new_key()))


async def test_claims_and_header_cannot_be_changed_after_signing(provider: Any, idp: Any) -> None:
    head, _, signature = provider.token().split(".")
    claims = _b64(json.dumps(provider.claims(sub="evil")).encode())
    _, payload, _ = provider.token().split(".")
    other_head = _b64(b'{"alg":"EdDSA","kid":"k1","typ":"evil"}')
    async with provider.open() as verifier:
        await verifier.verify(provider.token())
        await idp.refusal(verifier, f"{head}.{claims}.{signature}")
        await idp.refusal(verifier, f"{other_head}.{payload}.{signature}")


async def test_a_token_without_a_key_name_is_refused_when_several_keys_fit(provider: Any, idp: Any) -> None:
    provider.keys.append(idp.new_key(kid="k2").published())
    async with provider.open() as verifier:
        await idp.refusal(verifier, provider.token(header={"kid": None}))
        await verifier.verify(provider.token())


async def test_two_keys_of_one_name_are_used_by_their_algorithm(provider: Any, idp: Any) -> None:
    rsa = idp.new_key("RS256", "k1")
    provider.keys.append(rsa.published())
    async with provider.open() as verifier:
        await verifier.verify(provider.token())
        await verifier.verify(provider.token(key=rsa))


async def test_ed448_is_not_taken_for_ed25519(provider: Any, idp: Any) -> None:
    key = attrs.evolve(provider.key, private=ed448.Ed448PrivateKey.generate())
    provider.keys = [key.published()]
    async with provider.open() as verifier:
        await idp.refusal(verifier, provider.token(key=key))


# Claims.


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": ...},
        {"iss": "https://idp.example/"},
        {"iss": "https://evil.example"},
        {"iss": ["https://idp.example"]},
        {"iss": None},
        {"aud": ...},
        {"aud": "clonk2"},
        {"aud": "clonk other"},
        {"aud": []},
        {"aud": ["other", ["clonk"]]},
        {"aud": {"clonk": True}},
        {"aud": None},
        {"exp": ...},
        {"exp": None},
        {"exp": "1900000000"},
        {"exp": True},
        {"exp": -1},
        {"exp": 1_900_000_000_000},
        {"exp": 10**400},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"nbf": "0"},
        {"nbf": None},
        {"iat": "0"},
        {"iat": False},
        {"sub": ...},
        {"sub": ""},
        {"sub": None},
        {"sub": 5},
        {"sub": "x" * 201},
        {"sub": "alice\n"},
        {"sub": "alice\x00"},
        {"sub": "\ud800"},
        {"jti": 5},
        {"jti": "x\x1b[2J"},
    ],
    ids=repr,
)
async def test_a_token_with_a_wrong_claim_is_refused(provider: Any, idp: Any, changes: dict[str, Any]) -> None:
    async with provider.open() as verifier:
        await idp.refusal(verifier, provider.token(**changes))


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b"\xff", b'"text"', b"[" * 10_000])
async def test_signed_claims_that_are_no_json_object_are_refused(provider: Any, idp: Any, payload: bytes) -> None:
    async with provider.open() as verifier:
        await idp.refusal(verifier, provider.key.sign({"alg": "EdDSA", "kid": "k1"}, payload))


async def test_times_are_compared_with_the_leeway(provider: Any, idp: Any) -> None:
    now_s = provider.now_s
    async with provider.open(leeway_s=30.0) as verifier:
        for right in ({"exp": now_s - 29.5}, {"nbf": now_s + 30}, {"iat": now_s + 30}, {"exp": now_s - 29, "nbf": 0}):
            await verifier.verify(provider.token(**right))
        assert "expired" in await idp.refusal(verifier, provider.token(exp=now_s - 30))
        assert "not valid yet" in await idp.refusal(verifier, provider.token(nbf=now_s + 31))
        assert "not valid yet" in await idp.refusal(verifier, provider.token(iat=now_s + 31))
    async with provider.open(leeway_s=0.0) as verifier:
        assert "expired" in await idp.refusal(verifier, provider.token(exp=now_s))


@pytest.mark.parametrize(
    ("claim", "claims", "scopes"),
    [
        ("scope", {"scope": "arbor:read claudecode:chat"}, {"arbor:read", "claudecode:chat"}),
        ("scope", {"scope": " openid  arbor:* \n"}, {"arbor:*"}),
        ("scope", {"scope": ["arbor:read", "openid", 5, None, ["*"], "A:b", "arbor:read\n"]}, {"arbor:read"}),
        ("scope", {"scope": "*"}, {"*"}),
        ("scope", {"scope": 5}, set()),
        ("scope", {"scope": {"*": "*"}}, set()),
        ("scope", {}, set()),
        ("permissions", {"permissions": ["hub:read"], "scope": "*"}, {"hub:read"}),
        ("realm_access.roles", {"realm_access": {"roles": ["arbor:read", "offline_access"]}}, {"arbor:read"}),
        ("a.b.c", {"a": {"b": {"c": "arbor:read"}}}, {"arbor:read"}),
        ("a.b.c", {"a": {"b": "arbor:read"}}, set()),
        ("a.b.c", {"a": ["b"]}, set()),
        ("https://clonk.example/scopes", {"https://clonk.example/scopes": ["arbor:read"]}, {"arbor:read"}),
    ],
)
async def test_scopes_come_from_their_claim(provider: Any, claim: str, claims: Any, scopes: set[str]) -> None:
    async with provider.open(scopes_claim=claim) as verifier:
        assert (await verifier.verify(provider.token(**claims))).scopes == scopes
    async with provider.open(scopes_claim=claim, scopes=("health:read",)) as verifier:
        assert (await verifier.verify(provider.token(**claims))).scopes == scopes | {"health:read"}


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        ("tenant", {"tenant": "team_a-1"}),
        ("org.tenant", {"org": {"tenant": "team_a-1"}}),
        ("https://clonk.example/tenant", {"https://clonk.example/tenant": "team_a-1"}),
    ],
)
async def test_the_tenant_comes_from_its_claim(provider: Any, path: str, claims: Any) -> None:
    async with provider.open(tenant_claim=path) as verifier:
        assert (await verifier.verify(provider.token(**claims))).tenant == "team_a-1"


@pytest.mark.parametrize("tenant", [..., None, "", 5, ["a"], "Team", "a/b", "..", "a b", "a\n", "é", "x" * 65])
async def test_a_token_without_a_right_tenant_is_refused(provider: Any, idp: Any, tenant: Any) -> None:
    async with provider.open(tenant_claim="tenant") as verifier:
        assert "tenant" in await idp.refusal(verifier, provider.token(tenant=tenant))
    async with provider.open() as verifier:
        assert (await verifier.verify(provider.token(tenant=tenant))).tenant == "default"


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


async def test_claims_that_are_required_must_have_their_texts(provider: Any, idp: Any) -> None:
    required = {"repository_owner_id": "123", "realm.name": "ours"}
    async with provider.open(required_claims=required) as verifier:
        good = {"repository_owner_id": "123", "realm": {"name": "ours"}}
        await verifier.verify(provider.token(**good))
        wrong: Any = (
            {},
            {"repository_owner_id": "123"},
            {**good, "repository_owner_id": 123},
            {**good, "realm": "ours"},
        )
        for claims in (*wrong, {**good, "repository_owner_id": "1234"}):
            assert "required" in await idp.refusal(verifier, provider.token(**claims))
