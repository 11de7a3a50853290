"""Tokens of an identity provider: JSON Web Tokens (RFC 7519), verified with its public keys (RFC 8725, RFC 9068)."""

import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final

import attrs
import orjson

from clonk_core.config.auth_settings import JwtSettings
from clonk_core.errors import Unauthenticated
from clonk_core.gateway.jwks import FETCH_TIMEOUT_S, Key, ProviderKeys, open_provider_keys
from clonk_core.interfaces.host import Log
from clonk_core.names import SCOPE

_MAX_TOKEN_BYTES: Final = 16 * 1024
_MAX_REMEMBERED: Final = 10_000
"""About 1 KiB each, with a few scopes."""

_MAX_NAME_CHARACTERS: Final = 200
_MAX_TIME_S: Final = 253_402_300_799
"""The end of the year 9999. A provider that counts milliseconds would make tokens that never expire."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TENANT: Final = re.compile(r"[a-z0-9_-]{1,64}")
_NEW_ONE: Final = "get a new token from the identity provider"


@attrs.frozen(kw_only=True)
class VerifiedToken:
    """What a token proves.

    Attributes:
        subject: Whose it is: its `sub`.
        tenant: Whose data its bearer reaches.
        scopes: What its bearer may do.
        expires_at: When it expires, POSIX time in seconds.
        token_id: Its `jti`, None when it has none.
    """

    subject: str
    tenant: str
    scopes: frozenset[str]
    expires_at: float
    token_id: str | None


@attrs.frozen(kw_only=True)
class _Verified:
    """A token whose signature and claims are right; only the times are left to be compared with the clock.

    Attributes:
        token: What it proves.
        valid_from: POSIX time in seconds: the later of `nbf` and `iat`.
        kid: Name of the key, as the token has it.
        key: The key that verified it.
    """

    token: VerifiedToken
    valid_from: float
    kid: str | None
    key: Key


class TokenVerifier:
    """Verifies tokens and remembers those it has verified; made by `open_token_verifier`.

    Args:
        settings: What tokens must be like.
        keys: The provider's keys.
        wall_clock: Gives the POSIX time in seconds.
    """

    def __init__(self, settings: JwtSettings, *, keys: ProviderKeys, wall_clock: Callable[[], float]) -> None:
        # Here, because a server without an identity provider need not load it (100 ms).
        import jwt

        self._settings = settings
        self._keys = keys
        self._wall_clock = wall_clock
        self._jws = jwt.PyJWS(algorithms=settings.algorithms)
        self._remembered: OrderedDict[bytes, _Verified] = OrderedDict()

    @staticmethod
    def looks_like_token(credential: str) -> bool:
        """Tell whether a credential has the form of a token: three base64url parts with dots between."""
        return _TOKEN.fullmatch(credential) is not None

    async def verify(self, token: str) -> VerifiedToken:
        """Return what the token proves.

        Raises:
            Unauthenticated: Nothing. The message says why and repeats nothing of the token.
            Unavailable: The provider's keys were never obtained.
        """
        if len(token) > _MAX_TOKEN_BYTES:
            raise Unauthenticated(
                f"the token is longer than {_MAX_TOKEN_BYTES} bytes; have the identity provider put less into it"
            )
        if not self.looks_like_token(token):
            raise Unauthenticated(f"the token is no signed JSON Web Token (RFC 7519); {_NEW_ONE}")
        digest = sha256(token.encode()).digest()
        verified = self._remembered.pop(digest, None)
        if verified is None or not await self._has_its_key(verified):
            verified = await self._verify(token)
        self._check_times(verified)
        # Put at the end: what was not used for the longest time is at the front.
        self._remembered[digest] = verified
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return verified.token

    async def _has_its_key(self, verified: _Verified) -> bool:
        """Tell whether a remembered token would be verified by the same key now."""
        keys = await self._keys.current()
        return keys.find(verified.kid, verified.key.algorithm) == verified.key

    def _check_times(self, verified: _Verified) -> None:
        now_s, leeway_s = self._wall_clock(), self._settings.leeway_s
        if not now_s < verified.token.expires_at + leeway_s:
            raise Unauthenticated(f"the token has expired; {_NEW_ONE}")
        if not now_s >= verified.valid_from - leeway_s:
            raise Unauthenticated(
                "the token is not valid yet; use it later, or have the clocks of this server and of the identity "
                "provider compared"
            )

    async def _verify(self, token: str) -> _Verified:
        kid, algorithm = self._read_header(token)
        key = (await self._keys.current()).find(kid, algorithm)
        if key is None:
            key = (await self._keys.fetched_again()).find(kid, algorithm)
        if key is None:
            raise Unauthenticated(
                f"no published key of the identity provider fits the token; {_NEW_ONE}, or try again in "
                f"{self._settings.keys_min_age_s:g} s if its keys have just changed"
            )
        claims = self._signed_claims(token, key)
        return _Verified(
            token=read_claims(claims, self._settings),
            valid_from=max(_time(claims, "nbf") or 0, _time(claims, "iat") or 0),
            kid=kid,
            key=key,
        )

    def _read_header(self, token: str) -> tuple[str | None, str]:
        """Return the key's name and the algorithm. Nothing of it is proved yet."""
        import jwt

        try:
            header = self._jws.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token has no header that can be read; {_NEW_ONE}") from error
        if "crit" in header:
            raise Unauthenticated(
                "the token's header has `crit`, and none of its extensions is known here; have the identity provider "
                "leave it out"
            )
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            taken = ", ".join(self._settings.algorithms)
            raise Unauthenticated(
                f"the token is not signed by an algorithm that is taken here ({taken}); have the identity provider "
                "use one of them"
            )
        return header.get("kid"), algorithm

    def _signed_claims(self, token: str, key: Key) -> Mapping[str, Any]:
        import jwt

        try:
            payload = self._jws.decode_complete(token, key.public, algorithms=[key.algorithm])["payload"]
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token's signature is wrong; {_NEW_ONE}") from error
        try:
            claims = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise Unauthenticated(f"the token's claims are not JSON; {_NEW_ONE}") from error
        if not isinstance(claims, dict):
            raise Unauthenticated(f"the token's claims are no JSON object; {_NEW_ONE}")
        return claims


def read_claims(claims: Mapping[str, Any], settings: JwtSettings) -> VerifiedToken:
    """Check signed claims, all but their times against the clock.

    Raises:
        Unauthenticated: One is missing, wrong or meant for somebody else.
    """
    if claims.get("iss") != settings.issuer:
        raise Unauthenticated(f"the token's `iss` is not the issuer that is configured here; {_NEW_ONE}")
    audience = claims.get("aud")
    if settings.audience not in (audience if isinstance(audience, list) else [audience]):
        raise Unauthenticated("the token's `aud` is not this server; ask the identity provider for one that is for it")
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise Unauthenticated("the token has no `exp`; have the identity provider set one")
    subject = _name(claims, "sub")
    if subject is None:
        raise Unauthenticated("the token has no `sub`; have the identity provider set one")
    for path, wanted in settings.required_claims.items():
        if _claim(claims, path) != wanted:
            raise Unauthenticated(f"the token's `{path}` is not the one that is required here; {_NEW_ONE}")
    return VerifiedToken(
        subject=subject,
        tenant=_tenant(claims, settings.tenant_claim),
        scopes=_scopes(claims, settings.scopes_claim).union(settings.scopes),
        expires_at=expires_at,
        token_id=_name(claims, "jti"),
    )


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a point in time, None when it is left out."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TIME_S:
        raise Unauthenticated(
            f"the token's `{name}` is no time in seconds since 1970; have the identity provider send a number"
        )
    return value


def _name(claims: Mapping[str, Any], name: str) -> str | None:
    """Return a name that can be shown, None when it is left out."""
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME_CHARACTERS or not value.isprintable():
        raise Unauthenticated(
            f"the token's `{name}` is no text of 1 to {_MAX_NAME_CHARACTERS} printable characters; have the identity "
            "provider send one"
        )
    return value


def _tenant(claims: Mapping[str, Any], path: str | None) -> str:
    if path is None:
        return "default"
    tenant = _claim(claims, path)
    if not isinstance(tenant, str) or _TENANT.fullmatch(tenant) is None:
        raise Unauthenticated(
            f"the token's `{path}` names no tenant (1 to 64 of a-z, 0-9, _ and -); have the identity provider set it"
        )
    return tenant


def _scopes(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """Return the scopes of a list, or of a text with spaces between; what is no scope of ours is left out."""
    found = _claim(claims, path)
    words = found.split() if isinstance(found, str) else found if isinstance(found, list) else []
    return frozenset(word for word in words if isinstance(word, str) and SCOPE.fullmatch(word))


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim of that whole name, or the one that its dots lead to; None when there is neither."""
    if path in claims:  # `https://clonk.example/tenant`: names of claims may be addresses (RFC 7519, section 4.2)
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found


@asynccontextmanager
async def open_token_verifier(
    settings: JwtSettings,
    *,
    log: Log,
    wall_clock: Callable[[], float] = time.time,
    fetch_timeout_s: float = FETCH_TIMEOUT_S,
) -> AsyncIterator[TokenVerifier]:
    """Verify tokens while the context lasts. The provider is first asked for its keys when the first token comes.

    Args:
        settings: What tokens must be like, and where the keys are.
        log: Where fetches of keys are told.
        wall_clock: Gives the POSIX time in seconds.
        fetch_timeout_s: Longest time of one fetch of the keys.
    """
    async with open_provider_keys(settings, log=log, fetch_timeout_s=fetch_timeout_s) as keys:
        yield TokenVerifier(settings, keys=keys, wall_clock=wall_clock)
