"""Which credential is used, and the secrets that `claudecode.env` names."""

from pathlib import Path
from typing import Any, Literal

import pytest

from clonk_claudecode.credentials import Credentials
from clonk_claudecode.engine.environment import MAX_SECRET_BYTES
from clonk_claudecode.engine.spec import EngineSettings
from clonk_claudecode.errors import SecretUnavailable
from clonk_claudecode.settings import ClaudeCodeSettings
from clonk_core.config.nodes import Origin

Where = Literal["file", "environment"]


def credentials(
    where: dict[str, Where] | None = None, stored: dict[str, str] | None = None, **set_: Any
) -> Credentials:
    async def secret(name: str) -> str | None:
        return (stored or {}).get(name)

    def origin(path: str) -> Origin:
        return Origin(kind=(where or {}).get(path, "file"), name=f"<{path}>")

    return Credentials(ClaudeCodeSettings(**set_), secret=secret, origin=origin)


async def test_the_order_is_file_configuration_store_environment(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("of the file\n")
    environment: dict[str, Where] = {"oauth_token": "environment", "api_key": "environment"}
    set_: dict[str, Any] = {"oauth_token": "set token", "api_key": "set key"}
    stored = {"claude_oauth_token": "stored token", "anthropic_api_key": "stored key"}
    stored_key = {"anthropic_api_key": "stored key"}
    for made, kind, secret in (
        (credentials(stored=stored, oauth_token_file=token_file, **set_), "oauth_token", "of the file"),
        (credentials(stored=stored, **set_), "oauth_token", "set token"),
        (credentials(stored=stored, api_key="set key"), "api_key", "set key"),
        (credentials({"oauth_token": "environment"}, stored, **set_), "api_key", "set key"),
        (credentials(environment, stored, **set_), "oauth_token", "stored token"),
        (credentials(environment, stored_key, **set_), "api_key", "stored key"),
        (credentials(environment, **set_), "oauth_token", "set token"),
        (credentials(environment, api_key="set key"), "api_key", "set key"),
    ):
        found = await made.find()
        assert found is not None
        assert (found.credential.kind, found.credential.secret) == (kind, secret)
        assert secret not in found.place
        assert secret not in repr(found)
    assert await credentials().find() is None


@pytest.mark.parametrize(
    ("written", "token"), [(b"tok", "tok"), (b"tok\n", "tok"), (b"tok\r\n", "tok"), (b"tok\n\n", "tok\n")]
)
async def test_a_token_file_is_read_each_time_without_its_line_end(tmp_path: Path, written: bytes, token: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"before")
    made = credentials(oauth_token_file=path)
    assert await made.find() is not None
    path.write_bytes(written)
    found = await made.find()
    assert found is not None
    assert found.credential.secret == token


@pytest.mark.parametrize("content", [None, b"", b"\n", b"s3cret\xff", b"s3cret" * MAX_SECRET_BYTES])
async def test_a_token_file_without_a_token_is_an_error_that_tells_neither_path_nor_content(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    # Something else is configured, but what the operator has named must not be passed over.
    made = credentials(stored={"claude_oauth_token": "stored"}, oauth_token_file=path, oauth_token="set")
    with pytest.raises(SecretUnavailable) as caught:
        await made.find()
    assert str(tmp_path) not in caught.value.message
    assert "s3cret" not in caught.value.message


async def test_secrets_are_filled_into_the_variables_each_time(tmp_path: Path) -> None:
    stored = {"one": "1", "two": "2 ${secret:one}"}
    env = {"A": "plain", "B": "${secret:one}", "C": "x-${secret:one}-${secret:two}-$y", "D": "${other:one}"}
    made = credentials(stored=stored, env=env)
    engine = EngineSettings(config_dir=tmp_path, run_dir=tmp_path, env={"A": "old"})
    assert (await made.complete(engine)).env == {
        "A": "plain",
        "B": "1",
        "C": "x-1-2 ${secret:one}-$y",
        "D": "${other:one}",
    }
    stored["one"] = "new"
    assert (await made.complete(engine)).env["B"] == "new"
    del stored["one"]
    with pytest.raises(SecretUnavailable, match=r"claudecode\.env\.B needs the secret 'one'"):
        await made.complete(engine)


@pytest.mark.parametrize("value", ["${secret:}", "${secret:1}", "${secret:a b}", "${secret:a", "x ${secret:a.b}"])
def test_a_reference_that_names_no_secret_is_a_mistake_in_the_configuration(value: str) -> None:
    with pytest.raises(ValueError, match=r"env\.X"):
        ClaudeCodeSettings(env={"X": value})
