"""Tokens of an identity provider: what claims must say, and which scopes and tenant they give."""

from typing import Any

import pytest


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
