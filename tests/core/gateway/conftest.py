"""An identity provider on the loopback: it signs tokens with real keys and publishes those keys over HTTP."""

import functools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs
import jwt
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from clonk_core.config.auth_settings import JwtSettings
from clonk_core.errors import Unauthenticated
from clonk_core.gateway.jwt import TokenVerifier, open_token_verifier
from tests.core.gateway.guarded import OpenGuarded, guarded_in
from tests.core.gateway.tokens import base64url

NOW_S = 1_800_000_000.0


@functools.cache
def _rsa(bits: int, number: int) -> rsa.RSAPrivateKey:
    """Return one of the keys of a length; they take long to make."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


@attrs.frozen(kw_only=True)
class SigningKey:
    """A key pair of the provider's."""

    kid: str | None
    algorithm: str
    private: Any

    def published(self, **changes: Any) -> dict[str, Any]:
        """Return it as the provider publishes it; a change to None takes a member away."""
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        found: dict[str, Any] = kinds[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        found = {**found, "kid": self.kid, "use": "sig", "alg": self.algorithm} | changes
        return {name: value for name, value in found.items() if value is not None}

    def sign(self, header: Mapping[str, Any], payload: bytes) -> str:
        """Sign whatever the header says, with the key's own algorithm."""
        message = f"{base64url(json.dumps(header).encode())}.{base64url(payload)}"
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        return f"{message}.{base64url(algorithm.sign(message.encode(), self.private))}"


def new_key(algorithm: str = "EdDSA", kid: str | None = "k1", *, number: int = 0, bits: int = 2048) -> SigningKey:
    """Make a key pair."""
    private: Any
    if algorithm == "RS256":
        private = _rsa(bits, number)
    elif algorithm == "ES256":
        private = ec.generate_private_key(ec.SECP256R1())
    else:
        private = ed25519.Ed25519PrivateKey.generate()
    return SigningKey(kid=kid, algorithm=algorithm, private=private)


class Provider:
    """The provider: publishes `keys` unless `answer` says what to send instead (nothing when it is empty)."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.key = new_key()
        self.keys: list[Any] = [self.key.published()]
        self.answer: bytes | None = None
        self.gate = trio.Event()
        self.gate.set()
        self.requests: list[bytes] = []
        self.now_s = NOW_S
        self.uri = ""
        self._changed = trio.Event()

    # The server.

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.uri = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/keys"
        task_status.started()
        await trio.serve_listeners(self._handle, listeners)

    async def _handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = await stream.receive_some(65_536)
                if not piece:
                    return
                head += piece
            self.requests.append(head)
            self._changed.set()
            self._changed = trio.Event()
            await self.gate.wait()
            answer = http_answer(json.dumps({"keys": self.keys}).encode()) if self.answer is None else self.answer
            try:
                await stream.send_all(answer)
            except trio.BrokenResourceError:
                return  # the client has read enough

    async def wait_asked(self, times: int) -> None:
        """Wait until the keys were asked for that often."""
        while len(self.requests) < times:
            await self._changed.wait()

    # Tokens.

    def settings(self, **changes: Any) -> JwtSettings:
        found = {"issuer": "https://idp.example", "audience": "clonk", "jwks_uri": self.uri} | changes
        return JwtSettings(**found)

    def open(self, *, fetch_timeout_s: float = 10.0, **changes: Any) -> AbstractAsyncContextManager[TokenVerifier]:
        """Open a verifier that trusts this provider."""
        return open_token_verifier(
            self.settings(**changes), log=self.log, wall_clock=lambda: self.now_s, fetch_timeout_s=fetch_timeout_s
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return good claims with some changed; `...` takes one away."""
        found = {
            "iss": "https://idp.example",
            "aud": "clonk",
            "sub": "alice@corp",
            "iat": int(self.now_s),
            "exp": int(self.now_s) + 300,
            "jti": "7f0c-once",
        } | changes
        return {name: value for name, value in found.items() if value is not ...}

    def token(self, *, key: SigningKey | None = None, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """Make a token with good claims, some changed."""
        key = key or self.key
        head = {"typ": "JWT", "alg": key.algorithm, "kid": key.kid} | dict(header or {})
        shown = {name: value for name, value in head.items() if value is not None}
        return key.sign(shown, json.dumps(self.claims(**changes)).encode())


def http_answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def refusal(verifier: TokenVerifier, token: str) -> str:
    """Assert that a token is refused and that the message repeats nothing of it; return the message."""
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    text = repr((caught.value.message, caught.value.data))
    for secret in (*token.split("."), "alice@corp", "7f0c-once", "evil"):
        assert len(secret) < 4 or secret not in text
    return caught.value.message


@pytest.fixture
async def provider(list_log: Any) -> AsyncIterator[Provider]:
    """A provider with one EdDSA key, `k1`."""
    async with trio.open_nursery() as nursery:
        made = Provider(list_log)
        await nursery.start(made.serve)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def open_guarded(tmp_path: Path) -> OpenGuarded:
    """`async with open_guarded(key_settings(...), ..., auth={...}, activations=[...]) as host`."""
    return guarded_in(tmp_path)


@pytest.fixture
def ages() -> trio.testing.MockClock:
    """The clock by which keys grow old: it runs as always, and jumps when it is told to."""
    return trio.testing.MockClock(rate=1.0)


@pytest.fixture
def idp() -> Any:
    """What tests of the provider need beside it: `new_key`, `http_answer`, `refusal`, `Provider`."""
    return _Tools


class _Tools:
    new_key = staticmethod(new_key)
    http_answer = staticmethod(http_answer)
    refusal = staticmethod(refusal)
    Provider = Provider
