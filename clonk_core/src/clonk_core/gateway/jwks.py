"""An identity provider's public keys: fetched within bounds, checked, and kept (JSON Web Key Sets, RFC 7517)."""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs
import orjson
import trio

from clonk_core.config.auth_settings import JwtSettings
from clonk_core.errors import Unavailable
from clonk_core.interfaces.host import Log

if TYPE_CHECKING:
    import httpx
    import jwt

FETCH_TIMEOUT_S: Final = 10.0
_MAX_BODY_BYTES: Final = 1024 * 1024
_MAX_KEYS: Final = 100
_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 16_384
"""OpenSSL verifies with no longer ones."""

_MAX_REASON_CHARACTERS: Final = 200
"""Some reasons repeat what the other side has sent."""

_FORMS: Final[Mapping[tuple[str, str | None], tuple[str, tuple[str, ...]]]] = {
    ("RSA", None): ("RS256", ("kty", "n", "e")),
    ("EC", "P-256"): ("ES256", ("kty", "crv", "x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("kty", "crv", "x")),
}
"""By type and curve: the one algorithm that such a key is used with, and its public members."""


class FetchFailed(Exception):
    """The provider did not give its keys. The text says why and is for the log alone."""


@attrs.frozen(kw_only=True)
class Key:
    """One public key.

    Attributes:
        kid: Its name at the provider, None when it has none.
        algorithm: The one signature algorithm it is used with.
        thumbprint: SHA-256 of its public members, in hex (RFC 7638): another key has another one.
        public: What verifies.
    """

    kid: str | None
    algorithm: str
    thumbprint: str
    public: "jwt.PyJWK" = attrs.field(eq=False, repr=False)


@attrs.frozen
class KeySet:
    """The usable keys of one answer, each once."""

    keys: tuple[Key, ...]

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the only key that fits, None when there is none or more than one.

        Args:
            kid: Name of the key; None fits every key, so that a set of one needs no names.
            algorithm: What it must be used with.
        """
        fitting = [key for key in self.keys if key.algorithm == algorithm and kid in (None, key.kid)]
        return fitting[0] if len(fitting) == 1 else None


def read_key_set(body: bytes) -> KeySet:
    """Read a key set, leaving out the keys that are of no use here.

    Raises:
        FetchFailed: It is no key set, or too large a one.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise FetchFailed("the answer is not JSON") from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise FetchFailed("the answer is not a key set: it has no list `keys`")
    if len(entries) > _MAX_KEYS:
        raise FetchFailed(f"the answer has {len(entries)} keys; at most {_MAX_KEYS} are taken")
    found = (_read_key(entry) for entry in entries if isinstance(entry, dict))
    return KeySet(tuple(dict.fromkeys(key for key in found if key is not None)))


def _read_key(entry: Mapping[str, Any]) -> Key | None:
    """Return the key, or None for one that is of no use here: of another type, for encryption, weak, broken."""
    kty, curve, kid = entry.get("kty"), entry.get("crv"), entry.get("kid")
    if not isinstance(kty, str) or not isinstance(curve, str | None) or not isinstance(kid, str | None):
        return None
    form = _FORMS.get((kty, curve))
    if form is None:
        return None
    algorithm, names = form
    members = {name: entry.get(name) for name in names}
    if not _is_for_signatures(entry, algorithm) or not all(isinstance(value, str) for value in members.values()):
        return None
    public = _make_public(members, algorithm)
    if public is None:
        return None
    thumbprint = sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return Key(kid=kid, algorithm=algorithm, thumbprint=thumbprint, public=public)


def _is_for_signatures(entry: Mapping[str, Any], algorithm: str) -> bool:
    """Tell whether a key says nothing against being used with `algorithm` (RFC 7517, sections 4.2 to 4.4)."""
    operations = entry.get("key_ops")
    return (
        entry.get("use") in (None, "sig")
        and entry.get("alg") in (None, algorithm)
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
        # A private key that everybody can read proves nothing.
        and "d" not in entry
    )


def _make_public(members: Mapping[str, Any], algorithm: str) -> "jwt.PyJWK | None":
    # Here, because a server without an identity provider need not load them (100 ms).
    import jwt
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        public = jwt.PyJWK(dict(members), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(public.key, RSAPublicKey) and not _MIN_RSA_BITS <= public.key.key_size <= _MAX_RSA_BITS:
        return None
    return public


async def fetch(uri: str, *, within_s: float) -> bytes:
    """Return what lies at `uri`. No redirect is followed (it may lead into the private network) and no proxy is used.

    Raises:
        FetchFailed: Status other than 200, more than 1 MiB, not whole within `within_s` seconds, not reachable.
    """
    # Here, because it takes 150 ms and a server without an identity provider need not pay.
    import httpx

    body = bytearray()
    with trio.move_on_after(within_s):
        try:
            # The scope around bounds all of it; limits of single steps would add nothing.
            async with (
                httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,  # noqa: S113
                client.stream(
                    "GET", uri, headers={"Accept": "application/json", "Accept-Encoding": "identity"}
                ) as response,
            ):
                if response.status_code != 200:
                    raise FetchFailed(f"the answer has the status {response.status_code}, not 200")
                await _read_body(response, body)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: no name of a host
            raise FetchFailed((str(error) or type(error).__name__)[:_MAX_REASON_CHARACTERS]) from error
        if len(body) > _MAX_BODY_BYTES:
            raise FetchFailed(f"the answer is longer than {_MAX_BODY_BYTES} bytes")
        return bytes(body)
    raise FetchFailed(f"no whole answer within {within_s:g} s")


async def _read_body(response: "httpx.Response", body: bytearray) -> None:
    """Read the body as sent, until it is whole or too long."""
    # Cut by cancellation, which ends the generators within httpx where they wait; left alone they would be found by the
    # garbage collector.
    with trio.CancelScope() as cut:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > _MAX_BODY_BYTES:
                cut.cancel()


class ProviderKeys:
    """The provider's keys, fetched when they are asked for: one fetch at a time, and a floor between two.

    Made by `open_provider_keys`, whose background task does the fetching: whoever asked may go away.
    """

    def __init__(self, settings: JwtSettings, *, log: Log, fetch_timeout_s: float) -> None:
        self._settings = settings
        self._log = log
        self._fetch_timeout_s = fetch_timeout_s
        self._keys: KeySet | None = None
        self._failed = False
        self._fetched_at = self._tried_at = -math.inf
        self._wanted = trio.Event()
        self._ended: trio.Event | None = None

    async def current(self) -> KeySet:
        """Return keys not older than `keys_max_age_s`, or the last ones while the provider cannot be reached.

        Raises:
            Unavailable: They were never obtained.
        """
        if self._keys is None or trio.current_time() - self._fetched_at > self._settings.keys_max_age_s:
            ended = self._ask()
            # While the provider is known to be down, nobody who can do with the old keys waits for the next attempt.
            if ended is not None and (self._keys is None or not self._failed):
                await ended.wait()
        return self._kept()

    async def fetched_again(self) -> KeySet:
        """Return the keys after one more fetch; without it when the last was less than `keys_min_age_s` ago.

        Raises:
            Unavailable: They were never obtained.
        """
        ended = self._ask()
        if ended is not None:
            await ended.wait()
        return self._kept()

    def _kept(self) -> KeySet:
        if self._keys is None:
            raise Unavailable(
                "the identity provider's keys could not be fetched, so no token can be verified; try again in "
                f"{self._settings.keys_min_age_s:g} s"
            )
        return self._keys

    def _ask(self) -> trio.Event | None:
        """Ask for a fetch and return what is set at its end; None when it is too early for another one."""
        if self._ended is None:
            if trio.current_time() - self._tried_at < self._settings.keys_min_age_s:
                return None
            self._ended = trio.Event()
            self._wanted.set()
        return self._ended

    async def fetch_when_asked(self) -> None:
        """Fetch, whenever it is asked for, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                await self._fetch()
            finally:
                self._tried_at = trio.current_time()
                ended, self._ended = self._ended, None
                if ended is not None:
                    ended.set()

    async def _fetch(self) -> None:
        uri = self._settings.jwks_uri
        try:
            keys = read_key_set(await fetch(uri, within_s=self._fetch_timeout_s))
        except FetchFailed as error:
            self._failed = True
            self._log.warning("keys of the identity provider not fetched", uri=uri, reason=str(error))
            return
        self._keys, self._failed, self._fetched_at = keys, False, trio.current_time()
        if keys.keys:
            self._log.info("keys of the identity provider fetched", uri=uri, kids=[key.kid for key in keys.keys])
        else:
            self._log.warning("the identity provider has no usable key", uri=uri)


@asynccontextmanager
async def open_provider_keys(
    settings: JwtSettings, *, log: Log, fetch_timeout_s: float = FETCH_TIMEOUT_S
) -> AsyncIterator[ProviderKeys]:
    """Keep the provider's keys while the context lasts. Nothing is fetched before it is asked for."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        keys = ProviderKeys(settings, log=log, fetch_timeout_s=fetch_timeout_s)
        nursery.start_soon(keys.fetch_when_asked)
        try:
            yield keys
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery that would wrap it
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
