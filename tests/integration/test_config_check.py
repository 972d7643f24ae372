"""`config check` reports every fault of every setting at once, with a remedy; `serve` refuses the same settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.integration._cli import run_here
from tests.integration._server import run_cli
from wallet_gql.environment import variable
from wallet_gql.settings import FROM_FILES, Settings
from wallet_gql.transports.http.tls import write_certificate

SECRET: Final = "Xq7vB9Kz4W"
URL: Final = f"postgres://me:{SECRET}"
LIVE: Final = f"sk_live_{SECRET}"

FREE: Final = ("webhook_private_targets", "insecure_http", "introspection", "example_page")

# What is wrong, by setting: each is a whole environment, which has that fault and no other.

MISSING: Final = {
    **{name: {name: ""} for name in Settings.model_fields},
    "storage": {"mode": "production"},
    "tls_cert": {"tls_key": "key.pem"},
    "tls_key": {"tls_cert": "cert.pem"},
    "trusted_documents_file": {"trusted_documents": "only"},
    "stripe_api_key": {"stripe_webhook_secrets": f"whsec_{SECRET}"},
}
MAY_BE_EMPTY: Final = (
    "secret_keys",
    "stripe_webhook_secrets",
    "stripe_publishable_key",
    "allowed_headers",
    "allowed_hosts",
    "allowed_origins",
    "metrics_address",
    "traces_url",
    "trusted_proxies",
    "rate_limits",
    "spending_limits",
)
"""Empty means none, which is no fault."""

MALFORMED: Final = {
    **{name: {name: "nonsense"} for name in Settings.model_fields},
    "storage": {"storage": f"{URL}#x@h/db"},
    "host": {"host": "no such host"},
    "trusted_documents_file": {"trusted_documents": "only", "trusted_documents_file": "broken.json"},
    "allowed_origins": {"allowed_origins": f"https://me:{SECRET}@app.example"},
    "allowed_headers": {"allowed_headers": "x-mine: yes"},
    "allowed_hosts": {"allowed_hosts": "https://wallet.example/"},
    "traces_url": {"traces_url": f"http://me:{SECRET}@collector:4318"},
    "trusted_proxies": {"trusted_proxies": "10.0.0.0/99"},
    "tls_cert": {"tls_cert": "broken.json", "tls_key": "key.pem"},
    "tls_key": {"tls_cert": "cert.pem", "tls_key": "broken.json"},
    "rate_limit_storage": {"rate_limit_storage": f"redis://:{SECRET}/x@h"},
    "secret_keys": {"secret_keys": f"{SECRET}{'A' * 32}=="},
    "stripe_api_key": {"stripe_api_key": SECRET},
    "stripe_webhook_secrets": {"stripe_api_key": f"sk_test_{SECRET}", "stripe_webhook_secrets": SECRET},
    "stripe_publishable_key": {"stripe_api_key": f"sk_test_{SECRET}", "stripe_publishable_key": f"sk_test_{SECRET}"},
    "stripe_api_base": {"stripe_api_base": f"https://me:{SECRET}@stand.in"},
}
OUT_OF_RANGE: Final = {
    **{name: {name: "-1"} for name, field in Settings.model_fields.items() if field.annotation in (int, float)},
    "storage": {"storage": f"postgres://me:{SECRET}@h:99999/db"},
    "host": {"host": "192.0.2.1", "insecure_http": "true"},
    "rate_limits": {"rate_limits": "user=0/minute"},
    "spending_limits": {"spending_limits": "EUR:day=0.00"},
    "metrics_address": {"metrics_address": "127.0.0.1:65536"},
    "traces_url": {"traces_url": f"http://collector:99999/{SECRET}"},
    "secret_keys": {"secret_keys": " ".join(f"{SECRET}{'A' * 31}{n}w=" for n in range(6))},
    "trusted_proxies": {"trusted_proxies": "10.0.0.256"},
    "allowed_headers": {"allowed_headers": f"x-{'a' * 100}"},
    "allowed_hosts": {"allowed_hosts": "-wallet.example"},
    "allowed_origins": {"allowed_origins": "https://app.example:99999"},
    "trusted_documents_file": {"trusted_documents": "only", "trusted_documents_file": "no/such/file.json"},
    "tls_cert": {"tls_cert": "no/such.pem", "tls_key": "key.pem"},
    "tls_key": {"tls_cert": "cert.pem", "tls_key": "no/such.pem"},
    "rate_limit_storage": {"rate_limit_storage": f"redis://:{SECRET}@h:99999/0"},
    "stripe_api_base": {"stripe_api_base": f"https://stand.in:99999/{SECRET}"},
    "stripe_publishable_key": {
        "stripe_api_key": f"sk_test_{SECRET}",
        "stripe_publishable_key": f"pk_test_{SECRET * 30}",
    },
    "stripe_webhook_secrets": {
        "stripe_api_key": f"sk_test_{SECRET}",
        "stripe_webhook_secrets": " ".join(f"whsec_{SECRET}{n}" for n in range(5)),
    },
}
CONTRADICTING: Final = {
    "storage": {"mode": "production", "storage": "memory://"},
    "workers": {"workers": "2", "storage": "memory://"},
    "mode": {"mode": "production", "storage": "memory://"},
    "trusted_documents": {"trusted_documents": "prefer"},
    "trusted_documents_file": {"trusted_documents": "only"},
    "tls_cert": {"tls_cert": "cert.pem", "tls_key": "other/wallet-key.pem"},
    "host": {"host": "0.0.0.0"},
    "metrics_address": {"metrics_address": "192.0.2.1:0"},
    "tls_key": {"tls_cert": "cert.pem", "tls_key": "other/wallet-key.pem"},
    "rate_limits": {"rate_limits": "tranfser=5/minute"},
    "secret_keys": {"secret_keys": " ".join([f"{SECRET}{'A' * 32}w="] * 2)},
    "stripe_api_key": {"stripe_api_key": LIVE},
    "stripe_api_base": {"mode": "production", "stripe_api_key": LIVE, "stripe_api_base": "https://stand.in"},
    "stripe_webhook_secrets": {"stripe_webhook_secrets": f"whsec_{SECRET}"},
    "stripe_publishable_key": {"stripe_api_key": f"sk_test_{SECRET}", "stripe_publishable_key": f"pk_live_{SECRET}"},
}
MISSPELT: Final = {name: {name[:-2] + name[-1] + name[-2] + "x": "1"} for name in Settings.model_fields}

KINDS: Final = {
    "missing": {name: given for name, given in MISSING.items() if name not in MAY_BE_EMPTY},
    "malformed": MALFORMED,
    "out of range": OUT_OF_RANGE,
    "contradicting": CONTRADICTING,
    "misspelt": MISSPELT,
}
WORDS: Final = ("mode", "log_level", "log_format", "graphql_profile", "trusted_documents", *FREE)
STANDS_ALONE: Final = {
    "allowed_headers": "without other sites it has no effect",
    "allowed_hosts": "any list is fine with any other setting",
    "allowed_origins": "the same",
    "trusted_proxies": "the same",
    "traces_url": "traces fit any other setting",
    "rate_limit_storage": "where limits are counted fits any limits",
    "spending_limits": "no other setting is about what users may spend",
    "log_level": "any level is fine",
    "log_format": "any format is fine",
    "graphql_profile": "any profile is fine",
    "port": "any port is fine",
    "webhook_private_targets": "allowed in any mode",
    "insecure_http": "it allows, and forbids nothing",
    "introspection": "the same",
    "example_page": "the same",
}
NOT_POSSIBLE: Final = {
    ("missing", *MAY_BE_EMPTY),
    ("out of range", "stripe_api_key", *WORDS),
    (
        "contradicting",
        *STANDS_ALONE,
        *(name for name, f in Settings.model_fields.items() if f.annotation in (int, float)),
    ),
}
"""What cannot be wrong so: a list may be empty, words and keys have no range, and numbers contradict nothing else."""

CASES: Final = [(kind, name) for kind, cases in KINDS.items() for name in cases]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a certificate, another one's key, and a file that is neither."""
    for name in [name for name in os.environ if name.startswith("WALLET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    cert, key = write_certificate(tmp_path)
    cert.rename("cert.pem")
    key.rename("key.pem")
    (tmp_path / "other").mkdir()
    write_certificate(tmp_path / "other")
    (tmp_path / "broken.json").write_text("{nonsense")
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process to its end; an exception that would become a traceback fails the test."""
    assert folder.is_dir()

    def run(*arguments: str, **given: str) -> tuple[int, str, str]:
        code = run_here(*arguments, **{variable(name): value for name, value in given.items()})
        return code, *capsys.readouterr()

    return run


def faults_of(text: str) -> list[str]:
    """The faults that a command told, without the program's name before them."""
    return [line.removeprefix("wallet-gql: ") for line in text.splitlines()]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{name}, {kind}" for kind, name in CASES])
def test_f5_each_fault_of_each_setting(run: Run, kind: str, name: str) -> None:
    """A fault is reported by name and with a remedy, without a secret; `serve` says the same and does not start."""
    code, out, err = run("config", "check", **KINDS[kind][name])
    assert (code, out) == (2, ""), err
    assert variable(name) in err, err
    assert all(re.match(r"\.env|WALLET_", fault) and re.search(r"[;:.] ", fault) for fault in faults_of(err)), err
    assert SECRET not in err
    served, _, refused = run("serve", **KINDS[kind][name])
    assert (served, faults_of(refused)) == (2, faults_of(err))
    plain = json.loads(run("config", "check", "--json", **KINDS[kind][name])[1])
    assert plain == {"ok": False, "faults": faults_of(err), "warnings": []}


def test_f5_every_setting_is_tried() -> None:
    """Each setting is wrong in each of the five ways, or is listed with the ways in which it cannot be."""
    impossible = {kind: set(names) for kind, *names in NOT_POSSIBLE}
    for kind, cases in KINDS.items():
        left_out = set(Settings.model_fields) - set(cases)
        assert left_out <= impossible.get(kind, set()), kind


def test_f5_all_faults_at_once(run: Run) -> None:
    """The faults of a field, of a name, of the server, of Stripe and of the store come together; no false sequels."""
    code, _, err = run(
        "config",
        "check",
        storages="x",
        port="99999",
        storage=f"{URL}#x@h/db",
        stripe_webhook_secrets=SECRET,
        tls_cert="no/such.pem",
        tls_key="key.pem",
        trusted_documents="only",
        rate_limits="tranfser=5/minute",
        host="no such host",
        mode="prod",
        log_level="loud",
    )
    assert code == 2
    told = [fault.partition(":")[0] for fault in faults_of(err)]
    assert sorted(told) == sorted(
        [
            "WALLET_STORAGES",
            "WALLET_PORT",
            "WALLET_MODE",
            "WALLET_LOG_LEVEL",
            "WALLET_STORAGE",
            "WALLET_STRIPE_WEBHOOK_SECRETS",
            "WALLET_STRIPE_WEBHOOK_SECRETS",
            "WALLET_TLS_CERT, WALLET_TLS_KEY",
            "WALLET_HOST",
            "WALLET_TRUSTED_DOCUMENTS_FILE",
            "WALLET_RATE_LIMITS",
        ]
    )


@pytest.mark.parametrize("level", ["INFO", "Debug", "warning"])
def test_the_level_of_the_log_in_any_case(run: Run, level: str) -> None:
    """As most programs take it."""
    assert run("config", "check", log_level=level)[0] == 0


def test_a_wallet_that_is_well_set_up(run: Run, folder: Path) -> None:
    """Production, with a store named and a certificate that fits, is well."""
    code, out, _ = run(
        "config", "check", mode="production", storage=f"sqlite:///{folder}/w.db", tls_cert="cert.pem", tls_key="key.pem"
    )
    assert (code, out) == (0, f"all is well: sqlite:///{folder}/w.db\n")


ENCODINGS: Final = {
    "UTF-16 of PowerShell": ("WALLET_PORT=9000\r\n".encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": ("WALLET_PORT=9000\r\n".encode("utf-16-le"), "UTF-16"),
    "UTF-8 with a mark": ("WALLET_PORT=9000\n".encode("utf-8-sig"), "byte order mark"),
    "Latin-1": (b"WALLET_PORT=9000\n# gr\xfc\xdfe\n", "line 2"),
    "no assignment": (b"WALLET_PORT=9000\nWALLET_HOST localhost\n", "line 2"),
    "open quotes": (b"\n\nWALLET_HOST='localhost\n", "line 3"),
}


@pytest.mark.parametrize("kind", ENCODINGS)
def test_d5_an_env_file_that_cannot_be_read_whole(run: Run, folder: Path, kind: str) -> None:
    """One line with the remedy from every command that reads settings, never another port than the file's."""
    content, says = ENCODINGS[kind]
    (folder / ".env").write_bytes(content)
    for command in (("config", "show"), ("config", "check"), ("serve",), ("audit",), ("schema",)):
        code, out, err = run(*command)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert ".env" in err
        assert says in err


def test_d5_an_env_file_that_is_a_folder(run: Run, folder: Path) -> None:
    """The same."""
    (folder / ".env").mkdir()
    code, _, err = run("config", "show")
    assert (code, err.count("\n")) == (2, 1)


COMMANDS: Final = (
    ("serve",),
    ("demo", "--no-browser"),
    ("schema",),
    ("openapi",),
    ("certificate", "--folder", "other"),
    ("migrate",),
    ("audit",),
    ("config", "show"),
    ("config", "check"),
    ("nodes", "status"),
    ("users",),
    ("reconcile",),
    ("merchants", "fee", "shop", "10"),
    ("payments", "list"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_f4_a_misspelt_setting_stops_every_command(run: Run, folder: Path, command: tuple[str, ...]) -> None:
    """In the environment and in `.env`, with the name that was meant; no empty wallet is made."""
    code, out, err = run(*command, storages="postgres://h/db")
    assert (code, out) == (2, "")
    assert "perhaps WALLET_STORAGE was meant" in err
    (folder / ".env").write_text("wallet_prot=1\n")
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "perhaps WALLET_PORT was meant" in err
    assert not (folder / "wallet.db").exists()


@pytest.mark.parametrize("name", ["test_redis_url", "soak_seed", "mutant", "failpoints"])
def test_variables_of_tests_are_let_be(run: Run, name: str) -> None:
    """They begin like settings."""
    assert run("config", "show", **{name: ""})[0] == 0


@pytest.mark.parametrize("service", ["gql", "api", "gql_v2"])
def test_variables_of_services_are_let_be(run: Run, service: str) -> None:
    """Variables that Kubernetes sets for a Service, such as wallet-gql, are not taken for misspelt settings."""
    address, port = "10.96.0.7", f"{service}_port_8000_tcp"
    told = {
        f"{service}_service_host": address,
        f"{service}_service_port": "8000",
        f"{service}_service_port_http": "8000",
        f"{service}_port": f"tcp://{address}:8000",
        port: f"tcp://{address}:8000",
        f"{port}_proto": "tcp",
        f"{port}_port": "8000",
        f"{port}_addr": address,
    }
    assert run("config", "show", **told)[0] == 0
    assert run("config", "show", **{f"{service}_port": "8000"})[0] == 2


def test_through_real_processes(folder: Path) -> None:
    """The same from outside: exit code 2, nothing but lines on standard error, no secret and no traceback."""
    for arguments in (("config", "show"), ("config", "check"), ("migrate",), ("serve",)):
        done = run_cli(folder, *arguments, storage=f"postgres://me:{SECRET}[#@h/db", storages="x")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 2), done.stderr
        assert SECRET not in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("field", FROM_FILES)
def test_a_secret_may_be_in_a_file(run: Run, folder: Path, field: str) -> None:
    """Its last line break does not count; both ways at once, or a file that is away, is a fault without the value."""
    url = f"sqlite:///{folder / 'here.db'}"
    values = {
        "storage": url,
        "rate_limit_storage": f"redis://:{SECRET}@h/0",
        "stripe_api_key": f"sk_test_{SECRET}",
        "stripe_webhook_secrets": f"whsec_{SECRET}",
        "secret_keys": f"{SECRET}{'A' * (42 - len(SECRET))}w=",
    }
    also = {"stripe_api_key": f"sk_test_{SECRET}"} if field == "stripe_webhook_secrets" else {}
    file = folder / "secret"
    file.write_text(values[field] + "\n")
    name = f"{field}_file"
    code, out, err = run("config", "show", "--json", **{name: str(file)}, **also)
    assert code == 0, err
    assert json.loads(out)[variable(field)]["from"] == "file"
    assert SECRET not in out

    for more in ({field: values[field]}, {name: str(folder / "away")}):
        code, out, err = run("config", "show", "--json", **{name: str(file), **more}, **also)
        told = json.loads(err)
        assert (code, out, told["ok"], told["code"], len(told["faults"])) == (2, "", False, "CONFIGURATION", 1)
        assert variable(name) in told["faults"][0]
        assert SECRET not in err


def test_a_setting_tells_where_it_comes_from(run: Run, folder: Path) -> None:
    """From the environment, which wins; from `.env`; or from nowhere."""
    (folder / ".env").write_text("WALLET_PORT=1\nwallet_workers=2\n")
    shown = json.loads(run("config", "show", "--json", port="9000")[1])
    assert shown["WALLET_PORT"] == {"value": "9000", "from": "environment"}
    assert shown["WALLET_WORKERS"] == {"value": "2", "from": ".env"}
    assert shown["WALLET_HOST"] == {"value": "127.0.0.1", "from": "default"}
    assert "WALLET_PORT=9000  # environment\n" in run("config", "show", port="9000")[1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_error_is_an_object_where_json_is_asked_for(run: Run, command: tuple[str, ...]) -> None:
    """Every command that knows `--json` tells a wrong setting as one object on standard error."""
    code, out, err = run(*command, "--json", port="nonsense")
    assert code == 2
    if "No such option" in err:
        assert "--json" in err
    else:
        told = json.loads(err or out)
        assert not told["ok"]
        assert "WALLET_PORT" in told["faults"][0]
