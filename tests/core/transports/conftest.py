"""Real certificates, made when a test wants them."""

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clonk_core.config.settings import TlsSettings

DAY = timedelta(days=1)


@attrs.frozen(kw_only=True)
class PairFiles:
    """A certificate and its key in files."""

    cert: Path
    key: Path
    serial: int

    @property
    def settings(self) -> TlsSettings:
        return TlsSettings(enabled=True, cert_path=self.cert, key_path=self.key)


class Authority:
    """Signs certificates of servers on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])
        self.ca_file = folder / "ca.pem"
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "crl_sign", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        self.certificate = (
            self._builder(self.name, self.key.public_key(), until=10 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, **usage), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.ca_file.write_bytes(self._pem(self.certificate))

    def issue(
        self, name: str = "server", *, until: timedelta = DAY, since: timedelta = -DAY, passphrase: bytes | None = None
    ) -> PairFiles:
        """Write `<name>.pem` with the chain and `<name>.key`, and return where they are."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            self._builder(subject, key.public_key(), since=since, until=until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        pair = PairFiles(
            cert=self.folder / f"{name}.pem", key=self.folder / f"{name}.key", serial=certificate.serial_number
        )
        pair.cert.write_bytes(self._pem(certificate) + self._pem(self.certificate))
        pair.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return pair

    def client(self) -> ssl.SSLContext:
        """Return what a client that trusts this authority connects with."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, until: timedelta, since: timedelta = -DAY
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + since)
            .not_valid_after(now + until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )

    @staticmethod
    def _pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority whose files are in a folder of their own."""
    folder = tmp_path / "tls"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def serial_of() -> Callable[[ssl.SSLObject], int]:
    """Tell the serial number of the certificate that the other side shows."""

    def serial(encryption: ssl.SSLObject) -> int:
        shown = encryption.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number

    return serial
