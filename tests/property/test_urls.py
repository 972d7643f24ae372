"""URLs with secrets: for every character in every part, no command shows a secret or ends in a traceback."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration._cli import run_here
from wallet_gql.backends import open_store, schemes
from wallet_gql.backends.postgres.node import PgNode
from wallet_gql.backends.postgres.setup import parse_url
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.urls import WITHHELD, hidden, parse, parse_all, redacted

SPECIAL = string.punctuation + string.whitespace + "a0"
BEFORE, AFTER = "Xq7vB", "9Kz4W"
"""The halves of a secret; neither may be shown, whatever stands between them."""

NODES = ",postgres://w:{secret}@h/db?node=n1"
TEMPLATES = {
    "password": "{scheme}://me:{secret}@h.example/db",
    "user": "{scheme}://{secret}:pw@h.example/db",
    "host": "{scheme}://me:{secret}@ho{char}st/db",
    "path": "{scheme}://me:{secret}@h.example/d{char}b",
    "query": "{scheme}://me:{secret}@h.example/db?no{char}de=n1",
    "parameter": "{scheme}://h.example/db?password={secret}",
    "number first": "{scheme}://me:12{char}{secret}@h.example/db",
    "second": "{scheme}://me:pw@h.example/db,{scheme}://me:{secret}@h.example/db?node=n1",
}
VARIABLES = ("WALLET_STORAGE", "WALLET_RATE_LIMIT_STORAGE", "WALLET_STRIPE_API_BASE", "WALLET_ALLOWED_ORIGINS")
COMMANDS = (("config", "show"), ("config", "check"), ("nodes", "status"), ("migrate",), ("audit",))

Told = Callable[..., str]


def urls_of(char: str, scheme: str) -> Iterator[str]:
    """A URL with the character in each of its parts."""
    for template in TEMPLATES.values():
        url = template.format(scheme=scheme, secret=f"{BEFORE}{char}{AFTER}", char=char)
        yield url + (NODES.format(secret=f"{BEFORE}{char}{AFTER}") if scheme.startswith("redis") else "")


def leaks(text: str) -> bool:
    """Whether a piece of the secret can be read."""
    return BEFORE in text or AFTER in text


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command in this process, with these variables; answers all that it printed. A traceback fails the test."""
    for name in [name for name in os.environ if name.startswith("WALLET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int | None = None, **variables: str) -> str:
        ended = run_here(*arguments, **variables)
        assert code is None or ended == code, variables
        out, err = capsys.readouterr()
        return str(out + err)

    return run


@pytest.mark.parametrize("scheme", [*schemes(), "nosuch", "sqlite3"])
def test_a5_every_printable_character_in_every_part(scheme: str) -> None:
    """Shown without its secret, or withheld; and whatever opens it says so without the secret."""
    for char in string.printable:
        for url in urls_of(char, scheme):
            assert not leaks(redacted(url)), url
            refusal = refusal_of(url) if char in SPECIAL else ""
            assert not leaks(refusal), url
            assert "\n" not in refusal


def refusal_of(url: str) -> str:
    """What opening the store says; nothing where it can be opened."""
    try:
        open_store(url)
    except ConfigurationError as error:
        return error.message
    return ""


@given(text=st.text(), scheme=st.sampled_from(schemes()), template=st.sampled_from(sorted(TEMPLATES)))
@settings(max_examples=500, deadline=None)
def test_a5_any_text_in_any_part(text: str, scheme: str, template: str) -> None:
    """Also what nobody types: line breaks, other scripts, lone surrogates, several characters at once."""
    url = TEMPLATES[template].format(scheme=scheme, secret=f"{BEFORE}{text}{AFTER}", char=text)
    assert not leaks(redacted(url))
    assert not leaks(refusal_of(url))


@given(text=st.text())
def test_redacting_never_raises(text: str) -> None:
    """Whatever it is: the text comes back as a URL without secrets, or withheld; so does other people's text."""
    shown = redacted(text)
    assert shown == WITHHELD or "://" in shown
    hidden(text)


@given(password=st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), min_size=1))
def test_an_encoded_password_is_taken_as_it_is(password: str) -> None:
    """The remedy works: percent-encoded, every printable password arrives whole."""
    url = parse(f"postgres://me:{quote(password, safe='')}@h/db")
    assert (url.user, url.password, url.host, url.file) == ("me", password, "h", "db")
    assert url.shown == "postgres://***@h/db"


@pytest.mark.parametrize("char", list('#/?@[]% :,^<>{}|`\\"\t\n'))
def test_what_is_special_in_a_password_is_refused_with_the_remedy(told: Told, char: str) -> None:
    """One line, exit code 2, by every command that reads the storage URL."""
    url = f"postgres://me:{BEFORE}{char}{AFTER}@h/db"
    for command in COMMANDS:
        text = told(*command, code=2, WALLET_STORAGE=url)
        assert text.count("\n") == 1
        assert "percent-encode" in text
        assert not leaks(text)


@pytest.mark.parametrize("name", VARIABLES)
def test_no_variable_with_a_url_is_shown(told: Told, name: str) -> None:
    """Every setting that takes a URL, every special character in its password; letters and digits are alike."""
    scheme = {"WALLET_STORAGE": "postgres", "WALLET_RATE_LIMIT_STORAGE": "redis"}.get(name, "https")
    for char in SPECIAL:
        for template in ("password", "parameter", "number first"):
            secret = f"{BEFORE}{char}{AFTER}"
            url = TEMPLATES[template].format(scheme=scheme, secret=secret, char=char)
            assert not leaks(told("config", "show", **{name: url})), url


def test_a_parameter_that_may_be_the_rest_of_a_password_is_not_named() -> None:
    """`?password=a&b=c` may be the password `a&b=c`."""
    with pytest.raises(ConfigurationError) as caught:
        parse_url("postgres://h/db?password=a&Xq7vB=c")
    assert "Xq7vB" not in caught.value.message


@pytest.mark.parametrize("url", ["sqlite:wallet.db", "sqlite:./wallet.db", "sqlite:/wallet.db", "postgres:h/db", "C:x"])
def test_d1_what_is_no_url_is_not_guessed(told: Told, tmp_path: Path, url: str) -> None:
    """Neither another file nor another place is opened."""
    assert "sqlite:///wallet.db" in told("migrate", code=2, WALLET_STORAGE=url)
    assert not list(tmp_path.iterdir())


def test_d1_a_sqlite_file_is_the_one_that_is_named(told: Told, tmp_path: Path) -> None:
    """Relative, absolute, encoded, with a space or another script in its name."""
    for url, name in {
        "sqlite:///a.db": "a.db",
        "sqlite:///./b.db": "b.db",
        f"sqlite:///{tmp_path}/c d.db": "c d.db",
        "sqlite:///e%23f.db": "e#f.db",
        "sqlite:///käse.db": "käse.db",
    }.items():
        told("migrate", code=0, WALLET_STORAGE=url)
        assert (tmp_path / name).is_file(), url


def test_several_urls() -> None:
    """Commas part URLs only where another scheme follows."""
    found = parse_all("mongodb://a:1,b:2/db?w=1")
    assert [url.hosts for url in found] == ["a:1,b:2"]
    shown = redacted("redis+postgres://:x@r/0, postgres://u:p@h1/d?node=n1,postgres://h2/d?node=n2&sslpassword=p")
    assert shown == "redis+postgres://***@r/0,postgres://***@h1/d?node=n1,postgres://h2/d?node=n2&***"


@pytest.mark.parametrize(
    "query",
    [
        "channel_binding=prefer",
        "connect_timeout=10",
        "sslmode=require",
        "application_name=shop",
        "target_session_attrs=read-write",
        "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=1000",
        "options=-c%20search_path%3Dwallet",
        "gssencmode=disable&sslsni=1&client_encoding=utf8",
    ],
)
def test_d3_parameters_of_libpq(query: str) -> None:
    """What managed Postgres writes into its URLs is taken, or ignored where it has no meaning for this driver."""
    ((_, url),) = parse_url(f"postgres://me:p@h/db?{query}&node=n1").items()
    kept = parse(url).parameters
    assert not kept.keys() & {"node", "channel_binding", "connect_timeout", "keepalives", "gssencmode", "sslsni"}
    for name in ("sslmode", "application_name", "target_session_attrs", "options"):
        assert (name in kept) == (name in query)


@pytest.mark.parametrize(("query", "size"), [("", 16), ("connections=2", 2), ("sslmode=disable&connections=40", 40)])
async def test_the_url_says_how_many_connections_a_process_has(query: str, size: int) -> None:
    """The driver does not see the parameter, and the operator does."""
    given = f"postgres://me:p@h/db?{query}" if query else "postgres://me:p@h/db"
    node = PgNode("n1", parse_url(given)["n1"])
    await node.open()  # connects when first used
    assert node._pools["commands"].pool.get_max_size() == node.pool_max == size
    assert "connections" not in node.url
    assert ("sslmode=disable" in node.url) == ("sslmode" in query)
    assert query in parse(given).shown
    await node.close()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sslmod=require", "sslmod"),
        ("search_path=wallet", "search_path"),
        ("channel_binding=require", "channel_binding"),
        ("sslmode=maybe", "sslmode"),
        ("sslrootcert=/no/such", "sslrootcert"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("sslmode=require&sslmode=disable", "twice"),
        ("connections=1", "connections"),
        ("connections=1001", "connections"),
        ("connections=many", "connections"),
        ("connections=%D9%A2%D9%A2", "connections"),
    ],
)
def test_d3_parameters_that_cannot_be_met_are_refused_by_name(query: str, named: str) -> None:
    """A misspelt parameter, a demand that the driver cannot meet, a server that cannot be written to."""
    with pytest.raises(ConfigurationError, match=named):
        parse_url(f"postgres://me@h/db?{query}")
