"""The server's own TLS, certificates for development, and the refusal of plain HTTP beyond this machine."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509

from tests.integration._server import PASSWORD, new_name, run_cli, serving
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.settings import load_settings
from wallet_gql.testing.patience import patience
from wallet_gql.transports.http.tls import CERT_FILE, KEY_FILE, check_transport, self_signed, write_certificate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.trial
def test_a_browsers_session_over_tls(tmp_path: Path, files: tuple[Path, Path]) -> None:
    """A client that trusts the certificate signs up, logs in and comes back with the Secure cookie, on two workers."""
    options = ("--tls-cert", str(files[0]), "--tls-key", str(files[1]), "--workers", "2")
    trust = ssl.create_default_context(cafile=str(files[0]))
    name = new_name()
    with serving(tmp_path, *options) as server:
        assert server.url.startswith("https://127.0.0.1:")
        headers = {"Sec-Fetch-Site": "same-origin"}
        with httpx.Client(base_url=server.url, verify=trust, headers=headers, timeout=patience(30)) as http:
            given = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
            assert http.post("/v1/user", json=given).status_code == 201
            made = http.post("/v1/session", json={"login": name, "password": PASSWORD})
            assert [text.partition("=")[0] for text in made.headers.get_list("set-cookie")] == ["__Host-wallet"]
            assert http.get("/v1/user").json()["username"] == name
            assert "strict-transport-security" not in made.headers  # not production
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{server.url}/healthz")
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https:", "http:"))


def test_old_tls_is_refused(tmp_path: Path) -> None:
    """A certificate of its own for one run; TLS below 1.2 does not get in."""
    with serving(tmp_path, "--tls-self-signed") as server:
        parts = urlsplit(server.url)
        assert parts.scheme == "https"
        pem = ssl.get_server_certificate((parts.hostname or "", parts.port or 0))
        trust = ssl.create_default_context(cadata=pem)
        assert httpx.get(f"{server.url}/healthz", verify=trust).status_code == 200
        old = ssl.create_default_context(cadata=pem)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/healthz", verify=old)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "wallet.example"])
def test_plain_http_beyond_this_machine_is_refused(host: str) -> None:
    """Unless it was asked for in so many words; on this machine it is welcome."""
    with pytest.raises(ConfigurationError, match="--insecure-http"):
        check_transport(load_settings(host=host))
    check_transport(load_settings(host=host, insecure_http=True))
    for own in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
        check_transport(load_settings(host=own))


def test_the_server_does_not_start_in_the_open(tmp_path: Path) -> None:
    """One clear line and exit code 2, before anything listens. With the option it serves: see `test_security_http`."""
    done = run_cli(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", storage="memory://")
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (2, 1, "")
    assert "--tls-cert" in done.stderr


def test_certificates_that_cannot_work(tmp_path: Path, files: tuple[Path, Path]) -> None:
    """A missing, broken, foreign or locked file is one line that names it; the key's password is never asked for."""
    cert, key = map(str, files)
    other = write_certificate(tmp_path)[1]
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for given_cert, given_key in ((cert, ""), ("", key)):
        with pytest.raises(ConfigurationError, match="go together"):
            check_transport(load_settings(tls_cert=given_cert, tls_key=given_key))
    for given_cert, given_key in ((cert, str(other)), (str(broken), key), (cert, str(broken)), ("/no/such", key)):
        with pytest.raises(ConfigurationError, match="TLS cannot be served"):
            check_transport(load_settings(tls_cert=given_cert, tls_key=given_key))
    with pytest.raises(ConfigurationError, match="exclude"), self_signed(load_settings(tls_cert=cert, tls_key=key)):
        pass


def test_the_certificate_command(tmp_path: Path) -> None:
    """It writes both files once, the key for its user alone, for the names that were asked for."""
    names = ("--name", "wallet.test", "--name", "192.0.2.1")
    done = run_cli(tmp_path, "certificate", *names, storage="memory://")
    assert (done.returncode, done.stdout.split()) == (0, [CERT_FILE, KEY_FILE])
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    told = x509.load_pem_x509_certificate((tmp_path / CERT_FILE).read_bytes())
    alternatives = told.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(one.value) for one in alternatives} == {"wallet.test", "192.0.2.1"}
    again = run_cli(tmp_path, "certificate", storage="memory://")
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
