"""TLS in the server: checks certificates before listening, and writes self-signed ones for trying it out."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from ...domain.errors import ConfigurationError
from ...settings import Settings
from .origins import is_loopback

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

CERT_FILE: Final = "wallet-cert.pem"
KEY_FILE: Final = "wallet-key.pem"
LASTS: Final = timedelta(days=90)
"""How long a self-signed certificate is valid."""

_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def check_transport(settings: Settings) -> None:
    """Refuse unintended plain HTTP, which would expose passwords and tokens, and certificates that cannot work.

    Raises:
        ConfigurationError: plain HTTP beyond this machine without the setting for it; a certificate or key is missing
            or cannot be read, or they do not belong together.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise ConfigurationError("WALLET_TLS_CERT, WALLET_TLS_KEY: they go together; set both, or none")
    if settings.tls_cert:
        _check_certificate(settings.tls_cert, settings.tls_key)
    elif not settings.insecure_http and not is_loopback(settings.host):
        raise ConfigurationError(
            f"plain HTTP on {settings.host} would show passwords and tokens to the network: give --tls-cert and "
            "--tls-key, or listen on 127.0.0.1 behind a proxy that has TLS, or say --insecure-http"
        )


def _check_certificate(cert: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "it cannot be read"
        raise ConfigurationError(
            f"WALLET_TLS_CERT, WALLET_TLS_KEY: TLS cannot be served with {cert} and {key}: {reason}; "
            "name the PEM files of a certificate and of its key, without a password"
        ) from error


def _no_password() -> str:
    """Refuse keys with a password: nobody is there to type it."""
    return ""


def write_certificate(folder: Path, names: tuple[str, ...] = _NAMES) -> tuple[Path, Path]:
    """Write a self-signed certificate for these names and addresses, and its key, readable by the user only.

    Raises:
        ConfigurationError: the package `cryptography` is not installed; one of the files exists; the folder does not.
    """
    try:
        from cryptography import x509  # noqa: PLC0415 - an extra that only this needs
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError("a certificate needs cryptography: pip install 'wallet-gql[tls]'") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wallet-gql development")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + LASTS)
        .add_extension(x509.SubjectAlternativeName([_general_name(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    cert_file, key_file = folder / CERT_FILE, folder / KEY_FILE
    _write_new(key_file, plain, 0o600)
    _write_new(cert_file, built.public_bytes(serialization.Encoding.PEM), 0o644)
    return cert_file, key_file


def _general_name(name: str) -> GeneralName:
    from cryptography import x509  # noqa: PLC0415 - same

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a new file, with these permissions from the start. It must not exist yet."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists; choose another --folder, or remove it") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def self_signed(settings: Settings) -> Iterator[Settings]:
    """The settings with a certificate for as long as the server runs. Raises ConfigurationError."""
    if settings.tls_cert or settings.tls_key:
        raise ConfigurationError("--tls-self-signed and a certificate of your own exclude one another")
    names = dict.fromkeys((*_NAMES, *(() if settings.host in ("0.0.0.0", "::") else (settings.host,))))  # noqa: S104
    with TemporaryDirectory(prefix="wallet-tls-") as folder:
        cert, key = write_certificate(Path(folder), tuple(names))
        yield settings.model_copy(update={"tls_cert": str(cert), "tls_key": str(key)})
