"""Coverage-guided fuzzing of what reads bytes from outside: run by hand, with `atheris` from PyPI.

    uv pip install --target /tmp/atheris atheris
    PYTHONPATH=/tmp/atheris .venv/bin/python tests/fuzz_wire.py -max_total_time=60

What is caught here is what each reader says it raises; anything else is a finding, and its input is written to a file.
pytest does not collect this.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any, Final

import orjson

from clonk_core.config.auth_settings import JwtSettings
from clonk_core.errors import TooLarge, Unauthenticated

JWT: Final = JwtSettings(issuer="https://idp.example", audience="clonk", jwks_uri="https://idp.example/keys")


def fuzz_jsonrpc(data: bytes) -> None:
    """Whatever comes is a request, a batch or refused; and what is refused can be told so."""
    from clonk_core.wire.jsonrpc import Batch, Limits, Refused, error_bytes, parse, reply_bytes

    found = parse(data, Limits(message_bytes=100_000, batch_items=20))
    items = found.items if isinstance(found, Batch) else (found,)
    for item in items:
        answer = error_bytes(item.id, item.error) if isinstance(item, Refused) else reply_bytes(item.id, b"null")
        orjson.loads(answer)
        assert b"\n" not in answer


def fuzz_sse(data: bytes) -> None:
    """However a stream is cut, the same events come out of it."""
    from clonk_core.wire.sse import Decoder, split_event_id

    cut = data[0] if data else 0
    try:
        whole = list(Decoder(max_event_bytes=1000).feed(data))
        decoder = Decoder(max_event_bytes=1000)
        pieces = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:])]
        assert pieces == whole, (pieces, whole)
    except TooLarge:
        pass
    split_event_id(data.decode("utf-8", "replace"))


def fuzz_headers(data: bytes) -> None:
    """Headers never raise, and a quality is one."""
    from clonk_core.transports.addresses import Proxies
    from clonk_core.transports.guard import Guard
    from clonk_core.transports.headers import charset, media_type, prefers_json
    from clonk_core.wire.http_caller import bearer_token
    from clonk_core.wire.trace_context import trace_id_of

    media_type(data)
    charset(data)
    prefers_json(data)
    trace_id_of(data)
    bearer_token([(b"authorization", data), (b"authorization", data[1:])])
    guard = Guard.build("127.0.0.1", ["clonk.example"])
    if guard.refusal(data, None) is None:
        assert any(name in data.lower() for name in (b"localhost", b"127.0.0.1", b"1", b"clonk.example")), data
    guard.refusal(b"localhost", data)
    proxies = Proxies.build(["127.0.0.0/8", "::1/128"])
    address = proxies.client("127.0.0.1", [(b"x-forwarded-for", data), (b"x-forwarded-proto", data)]).address
    assert address.isprintable()


def fuzz_token(data: bytes) -> None:
    """The head of a token, which anybody can write."""
    import base64

    from clonk_core.gateway.jwt import TokenVerifier, read_claims

    verifier = TokenVerifier(JWT, keys=None, wall_clock=lambda: 0.0)  # type: ignore[arg-type]
    head = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    for token in (f"{head}.e30.AA", data.decode("latin-1")):
        if verifier.looks_like_token(token):
            try:
                kid, algorithm = verifier._read_header(token)
            except Unauthenticated:
                continue
            assert isinstance(kid, str | None), kid
            assert algorithm in JWT.algorithms
    try:
        claims: Any = orjson.loads(data)
        if isinstance(claims, dict):
            read_claims({"iss": JWT.issuer, "aud": JWT.audience, "exp": 1, "sub": "x", **claims}, JWT)
    except (orjson.JSONDecodeError, Unauthenticated):
        pass


def fuzz_names(data: bytes) -> None:
    """Names and scopes."""
    from clonk_core.names import KEY_ID, SCOPE, scope_covers, scope_is_narrowed

    text = data.decode("utf-8", "replace")
    if KEY_ID.fullmatch(text):
        assert text.isprintable()
    if SCOPE.fullmatch(text):
        scope_covers(frozenset([text]), text)
        scope_is_narrowed(frozenset([text]), "arbor:read")


TARGETS: Final[list[Callable[[bytes], None]]] = [fuzz_jsonrpc, fuzz_sse, fuzz_headers, fuzz_token, fuzz_names]


def fuzz_one(data: bytes) -> None:
    """The first byte says which reader gets the rest."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def main() -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["clonk_core"]):
        for module in (
            *("wire.jsonrpc", "wire.sse", "wire.http_caller", "wire.trace_context", "names"),
            *("transports.headers", "transports.guard", "transports.addresses", "gateway.jwt"),
        ):
            importlib.import_module(f"clonk_core.{module}")
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
