"""Write `models.py` and `operations.py` from the wallet's table of operations; with `--check`, only compare.

Needs wallet-gql and ruff: run it with the Python of the wallet's own `.venv`.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from wallet_gql.transports.rest.routes import OPERATIONS, openapi_text
from wallet_gql.transports.rest.routing import Content, Operation

PACKAGE: Final = Path(__file__).resolve().parent / "src" / "wallet_gql_client"
DOCUMENT: Final[dict[str, Any]] = json.loads(openapi_text())
SCHEMAS: Final[dict[str, dict[str, Any]]] = DOCUMENT["components"]["schemas"]
TYPES: Final = {"string": "str", "integer": "int", "boolean": "bool", "null": "None"}
LITERALS_MAX: Final = 30
"""Longer enums are plain text: a wallet may know more currencies than this client."""

HEAD: Final = '"""{about} Written by generate.py. Do not edit."""\n\nfrom __future__ import annotations\n\n'


def type_of(schema: Mapping[str, Any]) -> str:
    """The Python type of a JSON schema."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " | ".join(dict.fromkeys(type_of(one) for one in options))
    if "enum" in schema and len(schema["enum"]) <= LITERALS_MAX:
        return f"Literal[{', '.join(json.dumps(name) for name in schema['enum'])}]"
    if schema.get("type") == "array":
        return f"list[{type_of(schema['items'])}]"
    if "additionalProperties" in schema and "properties" not in schema:
        return f"dict[str, {type_of(schema['additionalProperties'])}]"
    return str(schema["title"]) if schema.get("type") == "object" else TYPES[schema["type"]]


def models() -> str:
    """All that comes in or goes out, besides problems."""
    parts = [HEAD.format(about="What goes to the wallet and what comes back."), IMPORTS]
    for name, schema in sorted(SCHEMAS.items()):
        if "oneOf" in schema:
            parts += [typed(str(one["title"]), one) for one in schema["oneOf"]]
            parts.append(f"{name}: TypeAlias = {' | '.join(str(one['title']) for one in schema['oneOf'])}\n\n")
        elif not name.endswith("Problem"):
            parts.append(typed(name, schema))
    return "".join(parts)


IMPORTS: Final = "from typing import Literal, NotRequired, TypeAlias, TypedDict\n\n"


def typed(name: str, schema: Mapping[str, Any]) -> str:
    """A class for an object."""
    about = " ".join(str(schema.get("description", "One way to say it.")).split())
    lines = [f"class {name}(TypedDict):", f'    """{about}"""', ""]
    required = set(schema.get("required", ()))
    for member, inner in schema["properties"].items():
        kind = type_of(inner)
        lines.append(f"    {member}: {kind if member in required else f'NotRequired[{kind}]'}")
    return "\n".join(lines) + "\n\n"


def operations() -> str:
    """A function for each operation, which makes its call."""
    made = [function(operation) for operation in OPERATIONS if not is_stream(operation)]
    used = sorted(name for name in SCHEMAS if re.search(rf"\b{name}\b", "".join(made)))
    head = HEAD.format(about="What the wallet can do: each function makes a call, which a client runs.")
    imports = "from typing import Literal\n\nfrom .core import Call, new_key, segment\n"
    return f"{head}{imports}from .models import {', '.join(used)}\n\n{''.join(made)}"


def is_stream(operation: Operation) -> bool:
    """Whether it is the stream of events, which `Client.events` reads."""
    return any(isinstance(one, Content) and one.model for one in operation.answers.values())


def function(operation: Operation) -> str:
    """The function of an operation."""
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]
    path = re.sub(r"{(\w+)}", r"{segment(\1)}", operation.path)
    model = next(iter(operation.models.values()), None)
    told = next(iter(operation.answers.values()))
    result = model.__name__ if model else "str" if isinstance(told, Content) else "None"
    given = list(arguments(operation, described))
    is_prefixed = "{" in path
    passed = [f'"{operation.method}"', f'{"f" if is_prefixed else ""}"{path}"']
    query = [one["name"] for one in described["parameters"] if one["in"] == "query"]
    if query:
        passed.append("query={" + ", ".join(f'"{name}": {snake(name)}' for name in query) + "}")
    if operation.body is not None:
        passed.append("body=body")
    if operation.takes_key:
        passed.append("key=key or new_key()")
    if operation.method in ("GET", "DELETE") or operation.entry.keyed or operation.entry.reads:
        passed.append("is_safe=True")
    about = inspect.cleandoc(operation.handler.__doc__ or "").replace("\n", "\n    ").replace("\n    \n", "\n\n")
    end = "\n    " if "\n" in about else ""
    return (
        f"def {snake(operation.name)}({', '.join(given)}) -> Call[{result}]:\n"
        f'    """{about}{end}"""\n    return Call({", ".join(passed)})\n\n\n'
    )


def arguments(operation: Operation, described: Mapping[str, Any]) -> Iterator[str]:
    """The parameters of a function: ids, the body, the key, and what is asked for."""
    parameters = described["parameters"]
    for one in parameters:
        if one["in"] == "path":
            yield f"{one['name']}: str"
    if operation.body is not None:
        yield f"body: {operation.body.__name__}"
    named = [one for one in parameters if one["in"] == "query"]
    if named or operation.takes_key:
        yield "*"
    for one in sorted(named, key=lambda one: not one["required"]):
        kind = type_of(one["schema"])
        if kind.startswith("list["):
            yield f"{snake(one['name'])}: tuple[{kind[5:-1]}, ...] = ()"
        else:
            yield f"{snake(one['name'])}: {kind}" + ("" if one["required"] else " | None = None")
    if operation.takes_key:
        yield "key: str | None = None"


def snake(name: str) -> str:
    """`minMinorUnits` -> `min_minor_units`."""
    return re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", name)


def formatted(text: str, path: Path) -> str:
    """The text as ruff would have it."""
    for words in (("check", "--fix-only", "--quiet"), ("format",)):
        command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", str(path), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout  # noqa: S603 - ruff
    return text


def main() -> int:
    """Write both files, or say which differs."""
    stale = []
    for name, text in (("models.py", models()), ("operations.py", operations())):
        path = PACKAGE / name
        wanted = formatted(text, path)
        if "--check" in sys.argv and path.read_text() != wanted:
            stale.append(name)
        elif "--check" not in sys.argv:
            path.write_text(wanted)
    if stale:
        sys.stderr.write(f"{', '.join(stale)}: run clients/python/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
