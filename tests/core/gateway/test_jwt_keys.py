"""Tokens of an identity provider: only the algorithms and keys that are meant for them verify them."""

import hmac
import json
from typing import Any

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.core.gateway.tokens import ALGORITHMS, base64url


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
    message = base64url(b'{"alg":"HS256","kid":"k1"}') + "." + base64url(json.dumps(provider.claims()).encode())
    async with provider.open() as verifier:
        for secret in secrets:
            signature = hmac.digest(secret, message.encode(), "sha256")
            await idp.refusal(verifier, f"{message}.{base64url(signature)}")


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "", None, 5, ["EdDSA"], {"EdDSA": 1}, "Ed25519", "HS256"]
)
async def test_other_algorithms_are_refused(provider: Any, idp: Any, algorithm: Any) -> None:
    async with provider.open() as verifier:
        assert "algorithm" in await idp.refusal(verifier, provider.token(header={"alg": algorithm}))
    assert provider.requests == []


async def test_an_unsigned_token_is_refused(provider: Any, idp: Any) -> None:
    unsigned = base64url(b'{"alg":"none","kid":"k1"}') + "." + base64url(json.dumps(provider.claims()).encode()) + "."
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
    claims = base64url(json.dumps(provider.claims(sub="evil")).encode())
    _, payload, _ = provider.token().split(".")
    other_head = base64url(b'{"alg":"EdDSA","kid":"k1","typ":"evil"}')
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
