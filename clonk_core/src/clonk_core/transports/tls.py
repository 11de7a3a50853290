"""TLS on both ports: the certificate, read again while the server runs, and handshakes that hold nobody up."""

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from clonk_core.config.settings import ServerSettings, TlsSettings
from clonk_core.errors import ConfigError
from clonk_core.interfaces.host import Log
from clonk_core.wire.http_caller import peer_name

Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"
"""One accepted connection, plain or encrypted."""

_CERTIFICATE: Final = "server.tls.cert_path"
_KEY: Final = "server.tls.key_path"


@attrs.frozen(kw_only=True)
class Pair:
    """A certificate and its key, checked.

    Attributes:
        context: What handshakes are made with.
        valid_from: From when clients accept the certificate.
        valid_until: Until when.
    """

    context: ssl.SSLContext
    valid_from: datetime
    valid_until: datetime

    @classmethod
    def read(cls, settings: TlsSettings) -> "Pair":
        """Read and check the pair that the settings name.

        Raises:
            ConfigError: It cannot be used; the text names setting and file.
        """
        # Here, because it takes a quarter of a second and most servers leave TLS to a proxy.
        from cryptography import x509

        cert_path = _given(settings.cert_path, _CERTIFICATE, "the certificate chain")
        key_path = _given(settings.key_path, _KEY, "the private key")
        try:
            own = x509.load_pem_x509_certificates(_content(cert_path, _CERTIFICATE))[0]
        except ValueError as error:
            raise ConfigError(f"{_CERTIFICATE}: {cert_path} holds no certificate in PEM") from error
        if b"PRIVATE KEY-----" not in _content(key_path, _KEY):
            raise ConfigError(f"{_KEY}: {key_path} holds no private key in PEM")
        context = _make_context(cert_path, key_path)
        return cls(context=context, valid_from=own.not_valid_before_utc, valid_until=own.not_valid_after_utc)

    def trouble(self, now: datetime) -> str | None:
        """Return why clients will refuse the certificate at that time, None where they need not."""
        if now > self.valid_until:
            return f"the certificate expired on {self.valid_until:%Y-%m-%d}; clients will refuse it"
        if now < self.valid_from:
            return f"the certificate is not valid before {self.valid_from:%Y-%m-%d}; clients will refuse it"
        return None


class TlsCertificate:
    """The pair that both ports show. It can be exchanged while they are served.

    Args:
        settings: Where the pair is.
        log: Told about certificates that are out of date, and of handshakes that fail (for debugging only: anyone who
            scans ports makes them fail).
        handshake_s: Longest time of one handshake, in seconds.

    Raises:
        ConfigError: The pair cannot be used.
    """

    def __init__(self, settings: TlsSettings, *, log: Log, handshake_s: float = 10.0) -> None:
        self._settings = settings
        self._log = log
        self._handshake_s = handshake_s
        self._pair = Pair.read(settings)
        self._warn()

    @classmethod
    def of(cls, server: ServerSettings, *, log: Log) -> "TlsCertificate | None":
        """Return the certificate, None where TLS is off."""
        return cls(server.tls, log=log, handshake_s=server.handshake_timeout_s) if server.tls.enabled else None

    def reload(self) -> bool:
        """Read the pair again; tell whether it is taken.

        It counts for handshakes from now on: open connections stay as they are. With a pair that cannot be used, the
        old one stays, and the log says why.
        """
        try:
            self._pair = Pair.read(self._settings)
        except ConfigError as error:
            self._log.error("tls certificate kept", reason=str(error))
            return False
        self._log.info("tls certificate reloaded", valid_until=f"{self._pair.valid_until:%Y-%m-%d}")
        self._warn()
        return True

    async def shake_hands(
        self, stream: trio.SocketStream, *, shutdown: trio.Event
    ) -> "trio.SSLStream[trio.SocketStream] | None":
        """Return the encrypted stream. None, and the connection is closed, when that fails or `shutdown` is set."""
        peer = _peer(stream)
        # Most clients close the socket alone, which is an end like any other: HTTP and WebSocket mark their own.
        secured = trio.SSLStream(stream, self._pair.context, server_side=True, https_compatible=True)
        failure: str | None = "the server is shutting down"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, shutdown, nursery.cancel_scope)
            failure = await self._handshake_failure(secured)
            nursery.cancel_scope.cancel()
        if failure is None:
            return secured
        self._log.debug("tls handshake failed", peer=peer, reason=failure)
        await trio.aclose_forcefully(stream)
        return None

    async def _handshake_failure(self, stream: "trio.SSLStream[trio.SocketStream]") -> str | None:
        with trio.move_on_after(self._handshake_s) as limit:
            try:
                await stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
                return str(error.__cause__ or error) or "the client left"
        return f"took longer than {self._handshake_s:g} s" if limit.cancelled_caught else None

    def _warn(self) -> None:
        trouble = self._pair.trouble(datetime.now(UTC))
        if trouble is not None:
            self._log.warning("tls certificate", reason=trouble, path=str(self._settings.cert_path))


def transport_of(stream: Stream) -> trio.SocketStream:
    """Return the connection below the encryption, if there is any."""
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


async def send_end(stream: Stream) -> None:
    """Say that nothing more will be sent, and go on receiving.

    `SSLStream` can only close. Without the end of TLS (`close_notify`) a client cannot tell the end of an answer from
    one that somebody cut off.

    Raises:
        BrokenResourceError, ClosedResourceError: The connection is gone.
    """
    if isinstance(stream, trio.SSLStream):
        await stream._retry(_close_notify, stream._ssl_object)  # noqa: SLF001
    await transport_of(stream).send_eof()


def _close_notify(encryption: ssl.SSLObject) -> None:
    # Ours is written. Then it looks for the client's, and finds nothing yet, or more of what the client sends.
    with suppress(ssl.SSLError):
        encryption.unwrap()


def _peer(stream: trio.SocketStream) -> str:
    try:
        return peer_name(*stream.socket.getpeername()[:2])
    except OSError:
        return peer_name("", 0)  # gone already


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


# ── reading the pair ─────────────────────────────────────────────────────────


class _HasPassphrase(Exception):
    """The key is encrypted, and nobody is there to ask."""


def _refuse_passphrase() -> str:
    # Without it OpenSSL asks on the terminal, and waits.
    raise _HasPassphrase


def _make_context(cert_path: Path, key_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_path, key_path, password=_refuse_passphrase)
    except _HasPassphrase as error:
        raise ConfigError(
            f"{_KEY}: {key_path} has a passphrase, which nobody could type when the server starts; "
            f"`openssl pkey -in {key_path.name} -out plain.pem` writes it without"
        ) from error
    except ssl.SSLError as error:
        raise ConfigError(_explain(error, cert_path, key_path)) from error
    except OSError as error:
        raise ConfigError(f"server.tls: {cert_path} and {key_path}: {error.strerror or error}") from error
    return context


def _explain(error: ssl.SSLError, cert_path: Path, key_path: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"{_KEY}: {key_path} is not the key of the certificate in {cert_path}; "
            "the server's own certificate must be the first in the file"
        )
    if error.reason in {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}:
        weak = error.reason.lower().replace("_", " ")
        return f"{_CERTIFICATE}: {cert_path} is too weak for today's clients: {weak}"
    if not error.reason:
        return f"{_KEY}: {key_path} holds no private key in PEM that OpenSSL can read"
    return f"server.tls: OpenSSL does not take {cert_path} with {key_path}: {error.reason.lower().replace('_', ' ')}"


def _given(path: Path | None, setting: str, what: str) -> Path:
    if path is None:
        raise ConfigError(f"{setting}: server.tls.enabled wants the file of {what}, in PEM")
    return path


def _content(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{setting}: there is no file {path}") from error
    except PermissionError as error:
        raise ConfigError(f"{setting}: this user may not read {path}") from error
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror or error}") from error
