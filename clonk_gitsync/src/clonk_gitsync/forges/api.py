"""Speaks HTTP with one forge, within bounds, and with nobody else: what `interface.ForgeApi` promises.

No redirect is followed and no proxy of the environment is used, so that the token goes to the address of the
configuration alone; certificates are checked.
"""

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from clonk_core.plugin import JsonValue, Log
from clonk_gitsync.forges.errors import ForgeFailed, ForgeLimited
from clonk_gitsync.forges.interface import ApiAnswer
from clonk_gitsync.forges.refusals import refusal, said, wait_of, when

if TYPE_CHECKING:
    import httpx

REQUEST_S: Final = 30.0
"""Longest time for one request and its answer."""

MAX_ANSWER: Final = 32 * 1024**2
"""Bytes of an answer: a page of 100 requests, few of which have a text of the longest size."""

LARGE_ANSWER: Final = 1024**2

WAITED_S: Final = 10.0
"""Longest wait for a limit of the forge's that is waited here and not told to the caller, in one call."""


@attrs.frozen(kw_only=True)
class ApiAddress:
    """Where the API is and what it is given.

    Attributes:
        url: Its address, no slash at the end.
        authorization: The header `Authorization`.
        secret: What is in it and must not be shown.
        headers: Further headers.
    """

    url: str
    authorization: str = attrs.field(repr=False)
    secret: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


class HttpApi:
    """The API of one forge, for one call of a method.

    Args:
        client: Sends; made by `open_api`.
        address: Where the API is.
        log: For what is not told to callers.
        clock: Gives the POSIX time in seconds.
    """

    def __init__(
        self, client: "httpx.AsyncClient", address: ApiAddress, log: Log, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._address = address
        self._log = log
        self._clock = clock
        self._patience_s = WAITED_S

    async def send(
        self, verb: str, path: str, *, query: Mapping[str, str | int] | None = None, body: JsonValue = None
    ) -> ApiAnswer:
        """Make one request; see `interface.ForgeApi`. A limit that is over soon is waited for."""
        if not path.startswith("/") or "?" in path or "#" in path or "\\" in path or "/../" in f"{path}/":
            raise ValueError("a path begins with a slash and stays below the API's address")
        while True:
            response, content = await self._exchange(verb, path, query, body)
            status = response.status_code
            if 200 <= status < 300:
                return ApiAnswer(
                    value=await self._value(content), more='rel="next"' in response.headers.get("link", "")
                )
            self._tell(verb, path, status, content)
            if 300 <= status < 400:
                raise ForgeFailed("redirected")
            wait_s = wait_of(status, response.headers, content, self._clock())
            if wait_s is None:
                if status >= 500:
                    raise ForgeFailed("failed")
                raise refusal(status, content, self._address.secret)
            if wait_s > self._patience_s:
                raise ForgeLimited(round(wait_s, 3), when(wait_s, self._clock()))
            self._patience_s -= wait_s
            await trio.sleep(wait_s)

    async def _exchange(
        self, verb: str, path: str, query: Mapping[str, str | int] | None, body: JsonValue
    ) -> tuple["httpx.Response", bytes]:
        import httpx

        content = bytearray()
        with trio.move_on_after(REQUEST_S):
            try:
                async with self._client.stream(
                    verb,
                    f"{self._address.url}{path}",
                    params=query,
                    json=body,
                    headers={"Authorization": self._address.authorization},
                ) as response:
                    await _read(response, content)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                reason = self._hidden(str(error) or type(error).__name__)
                self._log.warning("a forge cannot be reached", api=self._address.url, reason=reason)
                raise ForgeFailed("unreachable") from None  # its request would hold the token
            if len(content) > MAX_ANSWER:
                raise ForgeFailed("too_large")
            return response, bytes(content)
        self._log.warning("a forge took too long", api=self._address.url, limit_s=REQUEST_S)
        raise ForgeFailed("too_slow")

    async def _value(self, content: bytes) -> JsonValue:
        if not content.strip():
            return None
        try:
            # A large one takes long enough to hold up others.
            large = len(content) > LARGE_ANSWER
            value: JsonValue = await trio.to_thread.run_sync(json.loads, content) if large else json.loads(content)
        except (ValueError, RecursionError) as error:
            self._log.warning("a forge's answer is no JSON", api=self._address.url)
            raise ForgeFailed("not_understood") from error
        return value

    def _tell(self, verb: str, path: str, status: int, content: bytes) -> None:
        words = said(content, self._address.secret)
        self._log.warning(
            "a forge refused", api=self._address.url, verb=verb, path=path[:300], status=status, said=words
        )

    def _hidden(self, words: str) -> str:
        return words.replace(self._address.secret, "***")[:300] if self._address.secret else words[:300]


async def _read(response: "httpx.Response", content: bytearray) -> None:
    """Read a body as sent, until it is whole or too long."""
    # Cut by cancellation, which ends the generators within httpx where they wait; left alone they would be found by the
    # garbage collector.
    with trio.CancelScope() as cut:
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > MAX_ANSWER:
                cut.cancel()


class Connections:
    """Makes clients. What checks certificates is made once: it takes 50 ms.

    Beside the authorities that httpx brings, those of this machine are believed, as git does.
    """

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def open(
        self, address: ApiAddress, log: Log, clock: Callable[[], float] = time.time
    ) -> AsyncIterator[HttpApi]:
        """Open the API at an address for some requests."""
        # Here, because it takes 150 ms and a server without a forge need not pay.
        import httpx

        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "clonk-gitsync",
            **address.headers,
        }
        async with httpx.AsyncClient(
            verify=self._context() if address.url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            follow_redirects=False,
            # The scope around each request bounds all of it.
            timeout=None,  # noqa: S113
            headers=headers,
        ) as client:
            yield HttpApi(client, address, log, clock)

    def _context(self) -> ssl.SSLContext:
        import httpx

        if self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
            self._tls.load_default_certs()
        return self._tls
