"""GitHub Apps: their tokens open the API and the remote, and are made anew before they expire."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from clonk_core.plugin import CallError
from tests.gitsync.conftest import git
from tests.gitsync.forges.conftest import OpenWorld
from tests.gitsync.forges.loopback.github import App, GitHub


def pem(key: Any) -> str:
    return str(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    )


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def forge(key: rsa.RSAPrivateKey) -> GitHub:
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    forge = GitHub()
    forge.app = App(app_id="4711", public_key=public.decode())
    forge.git_tokens = set()
    return forge


def entry(**app: Any) -> dict[str, Any]:
    return {"token": None, "app": {"app_id": 4711, "private_key": "forge", **app}}


def made(forge: GitHub) -> list[dict[str, Any]]:
    assert forge.app is not None
    return forge.app.made


async def error_of(call: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


async def test_one_token_for_the_one_repository_opens_api_and_remote(
    open_world: OpenWorld, forge: GitHub, key: rsa.RSAPrivateKey
) -> None:
    async with open_world(forge, token=pem(key), entry=entry()) as world:
        answer = await world.create()
        assert (answer["created"], answer["pushed"]) == (True, True)
        assert world.place.refs()["refs/heads/claude/work"] == git(world.place.work, "rev-parse", "HEAD")
        await world.call("list_prs")
        assert [one["repositories"] for one in made(forge)] == [["repo"]]
        # The installation was looked up once, for the token.
        assert len([one for one in forge.seen if one.path.endswith("/installation")]) == 1
        told = (
            world.host.log_text + json.dumps(answer) + json.dumps(await world.host.client.call("audit.query", after=0))
        )
        assert made(forge)[0]["token"] not in told
        assert "PRIVATE KEY" not in told


async def test_a_token_that_expires_soon_is_made_anew(
    open_world: OpenWorld, forge: GitHub, key: rsa.RSAPrivateKey
) -> None:
    assert forge.app is not None
    forge.app.lives_s = 300
    async with open_world(forge, token=pem(key), entry=entry(installation_id=77), committed=False) as world:
        await world.call("list_prs")
        await world.call("list_prs")
        assert len(made(forge)) == 2
        forge.app.lives_s = 3600
        await world.call("list_prs")
        await world.call("list_prs")
        assert len(made(forge)) == 3
        assert not [one for one in forge.seen if one.path.endswith("/installation")]


async def test_a_token_that_was_taken_back_is_made_anew_by_the_next_call(
    open_world: OpenWorld, forge: GitHub, key: rsa.RSAPrivateKey
) -> None:
    async with open_world(forge, token=pem(key), entry=entry(), committed=False) as world:
        await world.call("list_prs")
        made(forge)[0]["expires"] = 0
        error = await error_of(world.call("list_prs"))
        assert error.data["reason"] == "authentication"
        assert (await world.call("list_prs"))["requests"] == []
        assert len(made(forge)) == 2


async def test_an_app_that_is_not_installed_or_not_known_is_told_as_such(
    open_world: OpenWorld, forge: GitHub, key: rsa.RSAPrivateKey
) -> None:
    wrong = entry(app_id="another", installation_id=78)
    async with open_world(forge, token=pem(key), entry=wrong, committed=False) as world:
        error = await error_of(world.call("list_prs"))
        assert (error.kind, error.data["reason"]) == ("gitsync.forge_refused", "authentication")
        assert forge.app is not None
        forge.app.app_id = "another"
        error = await error_of(world.call("push"))
        assert (error.kind, error.data["reason"]) == ("gitsync.remote_failed", "authentication")
        assert "there is no such repository" in world.host.log_text


@pytest.mark.parametrize("kind", ["text", "other curve", "public"])
async def test_a_secret_that_is_no_private_key_is_told_without_showing_it(
    open_world: OpenWorld, forge: GitHub, kind: str
) -> None:
    assert forge.app is not None
    secrets = {
        "text": "no-key-at-all",
        "other curve": pem(ec.generate_private_key(ec.SECP256R1())),
        "public": forge.app.public_key,
    }
    async with open_world(forge, token=secrets[kind], entry=entry(), committed=False) as world:
        error = await error_of(world.call("list_prs"))
        assert (error.kind, error.data["name"]) == ("unavailable", "forge")
        middle = secrets[kind].splitlines()[len(secrets[kind].splitlines()) // 2]
        assert middle not in world.host.log_text + error.message
        assert not forge.seen
