"""Where settings come from: variables `WALLET_…` and the file `.env`.

Misspelt names and unreadable files are faults: ignoring a misspelt name would leave its setting at the default, so that
the wallet might serve an empty file.
"""

from __future__ import annotations

import codecs
import difflib
import os
import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from . import failpoints
from .domain.errors import ConfigurationError

PREFIX: Final = "WALLET_"
IN_FILE: Final = "_file"
"""What follows the name of a setting in the variable that names a file with its value."""

OTHERS: Final = (failpoints.VARIABLE, "WALLET_MUTANT", "WALLET_TEST_", "WALLET_SOAK_")
"""Variables of tests, which have the prefix and are not settings. A name that ends with _ is itself a prefix."""

_SERVICE: Final = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)=.*|\w+_PORT(_[0-9]+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"
    r"|\w+_PORT_[0-9]+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*",
    re.ASCII,
)
"""Variables that Kubernetes sets for a Service: for wallet-gql, WALLET_GQL_SERVICE_HOST and WALLET_GQL_PORT, a URL.

For a Service called wallet they include WALLET_PORT, which is a setting.
"""

_AS_UTF8: Final = "save it as UTF-8 without a byte order mark; in PowerShell: Set-Content -Encoding ascii .env …"
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{field.upper()}"


def env_file() -> Path:
    """Where `.env` is looked for: the working directory."""
    return Path(".env").absolute()


def read_names() -> list[str]:
    """The names that `.env` sets; none without the file. Raises ConfigurationError if a part cannot be read."""
    names: list[str] = []
    for binding in parse_stream(StringIO(_text_of(env_file()))):
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigurationError(
                f".env: line {_line_of(binding.original.string, binding.original.line)} is not "
                "NAME=value; write one to a line, with quotes around a value that needs them"
            )
        if binding.key is not None:
            names.append(binding.key)
    return names


def in_files(fields: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The values of the fields whose variables with `_FILE` name a file, and a fault for each that cannot be had.

    Docker and Kubernetes hand out secrets as such files. A line break at the end of a file does not count.
    """
    given = _given()
    values: dict[str, str] = {}
    faults: dict[str, str] = {}
    for field in fields:
        name = variable(f"{field}{IN_FILE}")
        path = given.get(name)
        if not path:
            continue
        if given.get(variable(field)):
            faults[field] = f"{variable(field)}: {name} is set, too; unset one of them"
            continue
        try:
            values[field] = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            faults[field] = f"{name}: {path} cannot be read ({error.strerror}); name a file that can be"
        except UnicodeDecodeError:
            faults[field] = f"{name}: {path} is not UTF-8; write it anew"
    return values, faults


def origin(field: str) -> str:
    """Where the value of a setting comes from: `environment`, `.env`, `file`, or `default`."""
    if variable(f"{field}{IN_FILE}") in _given():
        return "file"
    name = variable(field)
    if any(one.upper() == name for one in os.environ):
        return "environment"
    return ".env" if name in _in_env_file() else "default"


def _given() -> dict[str, str]:
    """All variables that are set, in the environment or in `.env`, by their names in upper case."""
    return {**_in_env_file(), **{name.upper(): value for name, value in os.environ.items()}}


def _in_env_file() -> dict[str, str]:
    return {name.upper(): value or "" for name, value in dotenv_values(env_file()).items()}


def name_faults(fields: Iterable[str], from_file: Iterable[str]) -> list[str]:
    """A fault for each name in the environment or `.env` that has the prefix and is not a setting."""
    known = [variable(field) for field in fields]
    strange = {name for name in (*os.environ, *from_file) if name.upper().startswith(PREFIX)}
    return [
        f"{_printable(name)}: there is no such setting{_meant(name, known)}; unset it"
        for name in sorted(strange)
        if name.upper() not in known and not _is_other(name.upper()) and not _is_of_service(name)
    ]


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigurationError(f".env: it cannot be read ({error.strerror}); make it a file that can be") from error
    if content.startswith(_UTF16) or b"\0" in content:
        raise ConfigurationError(f".env: it is UTF-16, as PowerShell's > writes it; {_AS_UTF8}")
    if content.startswith(codecs.BOM_UTF8):
        raise ConfigurationError(f".env: it begins with a byte order mark, which hides its first name; {_AS_UTF8}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigurationError(f".env: line {line} is not UTF-8; {_AS_UTF8}") from error


def _line_of(text: str, first: int) -> int:
    """The line number of a statement whose text may begin with empty lines."""
    return first + len(text) - len(text.lstrip("\n"))


def _is_other(name: str) -> bool:
    return any(name == other or (other.endswith("_") and name.startswith(other)) for other in OTHERS)


def _is_of_service(name: str) -> bool:
    """Whether Kubernetes has set it for a Service. Looks only in the environment: nobody writes it into a file."""
    return name in os.environ and _SERVICE.fullmatch(f"{name}={os.environ[name]}") is not None


def _meant(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, 1)
    return f", perhaps {near[0]} was meant" if near else ""


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)
