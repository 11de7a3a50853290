"""The identity provider's keys: which of those that it publishes are used."""

from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"use": 5},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "AKP"},
        {"kty": None},
        {"kty": ["OKP"]},
        {"crv": "X25519"},
        {"crv": "Ed448"},
        {"crv": None},
        {"crv": {}},
        {"x": None},
        {"x": 5},
        {"x": "AAAA"},
        {"x": "not base64!"},
        {"x": "é"},
        {"kid": 5},
        {"kid": ["k1"]},
        {"d": "AAAA"},
    ],
    ids=repr,
)
async def test_a_key_of_no_use_is_left_out_and_the_others_work(
    provider: Any, idp: Any, changes: dict[str, Any]
) -> None:
    good = idp.new_key("ES256", "k2")
    provider.keys = [provider.key.published(**changes), None, 5, [], {}, good.published()]
    async with provider.open() as verifier:
        await verifier.verify(provider.token(key=good))
        await idp.refusal(verifier, provider.token())


@pytest.mark.parametrize(
    "changes",
    [{"n": None}, {"n": ""}, {"n": "AQAB"}, {"n": [5]}, {"e": None}, {"e": ""}, {"e": "AQ"}, {"crv": "P-256"}],
)
async def test_a_broken_rsa_key_is_left_out(provider: Any, idp: Any, changes: dict[str, Any]) -> None:
    rsa = idp.new_key("RS256", "k2")
    provider.keys.append(rsa.published(**changes))
    async with provider.open() as verifier:
        await verifier.verify(provider.token())
        await idp.refusal(verifier, provider.token(key=rsa))


async def test_an_elliptic_key_off_its_curve_is_left_out(provider: Any, idp: Any) -> None:
    key = idp.new_key("ES256", "k2")
    provider.keys.append(key.published(x=key.published()["y"]))
    async with provider.open() as verifier:
        await verifier.verify(provider.token())
        await idp.refusal(verifier, provider.token(key=key))


async def test_a_key_of_another_curve_is_left_out(provider: Any, idp: Any) -> None:
    key = attrs.evolve(idp.new_key("ES256", "k2"), private=ec.generate_private_key(ec.SECP384R1()))
    provider.keys.append(key.published())
    async with provider.open() as verifier:
        await verifier.verify(provider.token())
        await idp.refusal(verifier, provider.token(key=provider.key, header={"kid": "k2", "alg": "ES256"}))


@pytest.mark.filterwarnings("ignore:The RSA key")
async def test_an_rsa_key_under_2048_bits_is_left_out(provider: Any, idp: Any) -> None:
    weak, strong = idp.new_key("RS256", "weak", bits=1024), idp.new_key("RS256", "strong")
    provider.keys = [weak.published(), strong.published()]
    async with provider.open() as verifier:
        await verifier.verify(provider.token(key=strong))
        await idp.refusal(verifier, provider.token(key=weak))


async def test_a_key_that_is_published_twice_is_one_key(provider: Any) -> None:
    provider.keys = [*provider.keys, *provider.keys]
    async with provider.open() as verifier:
        await verifier.verify(provider.token())
