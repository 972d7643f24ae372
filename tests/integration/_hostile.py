"""Documents that repeat one element of the grammar until the request has the largest allowed size.

Each element is a function of its number and its length, so that both a few long ones and many short ones are made.
`mixed` nests and combines several elements, from a seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

BODY_MAX: Final = 256 * 1024
SIZES: Final = (2_000, 16_000, 250_000)
"""Characters of a request: ordinary, just below the longest document, just below the longest body."""

COUNTS: Final = (1, 12, 29, 95, 320, 900, 20_000)


@dataclass(frozen=True, slots=True)
class Hostile:
    """A request: what is sent as JSON."""

    name: str
    body: dict[str, Any]

    @property
    def size(self) -> int:
        """In bytes."""
        return len(json.dumps(self.body))


Grow = Callable[[int, int], dict[str, Any]]


def _name(number: int, length: int) -> str:
    return f"n{number}".ljust(length, "x")


def _many(count: int, one: Callable[[int], str], between: str = " ") -> str:
    return between.join(one(n) for n in range(count))


def _query(text: str) -> dict[str, Any]:
    return {"query": text}


def _transfer(fields: str) -> dict[str, Any]:
    return _query(f"mutation {{ transfer(input: {{{fields}}}) {{ __typename }} }}")


def _valid(text: str) -> str:
    return (
        f'idempotencyKey: "k", fromAccountId: "a", to: {{username: {text}}}, amount: {{minorUnits: 1, currency: EUR}}'
    )


def _values(value: Any) -> dict[str, Any]:
    return {"query": "mutation($i: TransferInput!) { transfer(input: $i) { __typename } }", "variables": {"i": value}}


def _deep(depth: int) -> Any:
    value: Any = 1
    for level in range(min(depth, 500)):
        value = [value] if level % 2 else {"to": value}
    return value


def _ids(values: list[Any]) -> dict[str, Any]:
    return {"query": "query($i: [ID!]!) { nodes(ids: $i) { id } }", "variables": {"i": values}}


ELEMENTS: Final[dict[str, Grow]] = {
    "arguments": lambda n, k: _query("{ node(" + _many(n, lambda i: f'{_name(i, 6)}: "{"x" * k}"') + ") { id } }"),
    "one argument again": lambda n, k: _query('{ node(id: "' + "x" * k + '"' + ' id: "1"' * n + ") { id } }"),
    "unknown object fields": lambda n, k: _transfer(_many(n, lambda i: f'f{i}: "{"x" * k}"')),
    "one object field again": lambda n, k: _transfer(_many(n, lambda _: f'reference: "{"x" * k}"')),
    "nested unknown fields": lambda n, k: _transfer("to: {" + _many(n, lambda i: f'f{i}: "{"x" * k}"') + "}"),
    "list items": lambda n, k: _query("{ nodes(ids: [" + _many(n, lambda _: f'"{"x" * k}"') + "]) { id } }"),
    "wrong list items": lambda n, k: _query(
        "{ nodes(ids: [" + _many(n, lambda _: f'{{a: "{"x" * k}"}}') + "]) { id } }"
    ),
    "list of empty lists": lambda n, k: _query("{ nodes(ids: [" + "[]" * n + "]) { id }" + " " * k + " }"),
    "nested lists": lambda n, k: _query("{ nodes(ids: " + "[" * n + f'"{"x" * k}"' + "]" * n + ") { id } }"),
    "nested objects": lambda n, k: _transfer("to: " + "{to: " * n + f'"{"x" * k}"' + "}" * n),
    "batch items": lambda n, k: _query(
        "mutation { transferBatch(input: {mode: ATOMIC, items: ["
        + _many(n, lambda _: f'{{a: "{"x" * k}"}}')
        + "]}) { __typename } }"
    ),
    "enum values": lambda n, k: _query("{ nodes(ids: [" + _many(n, lambda i: _name(i, k)) + "]) { id } }"),
    "wrong enum": lambda n, k: _query(
        "mutation { transferBatch(input: {mode: " + _name(n, k) + ", items: []}) { __typename } }"
    ),
    "directives": lambda n, k: _query("{ __typename " + _many(n, lambda i: f"@{_name(i, k)}") + " }"),
    "known directives": lambda n, k: _query("{ __typename" + " @include(if: true)" * n + " " * k + " }"),
    "directive arguments": lambda n, k: _query(
        "{ __typename @include(" + _many(n, lambda i: f'{_name(i, 6)}: "{"x" * k}"') + ") }"
    ),
    "variables": lambda n, k: _query("query(" + _many(n, lambda i: f"${_name(i, k)}: ID") + ") { __typename }"),
    "one variable again": lambda n, k: _query(f"query({'$a: ID ' * n}) {{ __typename }}" + " " * k),
    "defaults": lambda n, k: _query("query(" + _many(n, lambda i: f'$v{i}: Int = "{"x" * k}"') + ") { __typename }"),
    "undefined variables": lambda n, k: _query(
        "{ nodes(ids: [" + _many(n, lambda i: f"${_name(i, k)}") + "]) { id } }"
    ),
    "variable types": lambda n, k: _query(
        "query(" + _many(n, lambda i: f"$v{i}: [[[[T{'x' * k}]]]]") + ") { __typename }"
    ),
    "fragments": lambda n, k: _query(
        "{ __typename } " + _many(n, lambda i: f"fragment {_name(i, k)} on Query {{ __typename }}")
    ),
    "fragments of unknown types": lambda n, k: _query(
        "{ ...f0 } " + _many(n, lambda i: f"fragment f{i} on {_name(i, k)} {{ a }}")
    ),
    "one fragment again": lambda n, k: _query("{ ...F } " + "fragment F on Query { __typename } " * n + " " * k),
    "fragment spreads": lambda n, k: _query("{ " + _many(n, lambda i: f"...{_name(i, k)}") + " }"),
    "chained fragments": lambda n, k: _query(
        "{ ...f0 } " + _many(n, lambda i: f"fragment f{i} on Query {{ ...f{i + 1} ...f{i + 1} }}") + " " * k
    ),
    "fragment cycles": lambda n, k: _query(
        "{ ...f0 } " + _many(n, lambda i: f"fragment f{i} on Query {{ ...f{(i + 1) % n} }}") + " " * k
    ),
    "inline fragments": lambda n, k: _query("{ " + _many(n, lambda i: f"... on {_name(i, k)} {{ a }}") + " }"),
    "nested inline fragments": lambda n, k: _query("{ " + "... { " * n + "a" * k + " }" * n + " }"),
    "selections": lambda n, k: _query("{ " + _many(n, lambda i: _name(i, k)) + " }"),
    "one selection again": lambda n, k: _query("{ " + "__typename " * n + "#" + "x" * k + "\n}"),
    "nested selections": lambda n, k: _query("{ " + "viewer { " * n + _name(0, k) + " }" * n + " }"),
    "conflicting fields": lambda n, k: _query(
        "{ " + _many(n, lambda i: f'a: node(id: "{i}{"x" * k}") {{ id }}') + " }"
    ),
    "aliases": lambda n, k: _query("{ " + _many(n, lambda i: f"{_name(i, k)}: __typename") + " }"),
    "operations": lambda n, k: _query(_many(n, lambda i: f"query {_name(i, k)} {{ __typename }}")),
    "anonymous operations": lambda n, k: _query("{ __typename } " * n + " " * k),
    "type definitions": lambda n, k: _query(_many(n, lambda i: f"type {_name(i, k)} {{ a: Int }}")),
    "descriptions": lambda n, k: _query(_many(n, lambda i: f'"{"x" * k}" query q{i} {{ __typename }}')),
    "strings": lambda n, k: _transfer(_valid(f'"{"x" * (n * k)}"')),
    "escapes": lambda n, k: _transfer(_valid('"' + "\\u00e9" * (n * k // 6) + '"')),
    "surrogates": lambda n, k: _transfer(_valid('"' + "\\ud83d\\ude00" * (n * k // 12) + '"')),
    "characters beyond ASCII": lambda n, k: _transfer(_valid('"' + "\u00e9" * (n * k // 6) + '"')),
    "an endless string": lambda n, k: _query('{ node(id: "' + "x" * (n * k)),
    "block strings": lambda n, k: _transfer(_valid('"""' + ("x" * k + "\n") * n + '"""')),
    "indented block strings": lambda n, k: _transfer(
        _valid('"""' + _many(n, lambda i: " " * (k - i % 7), "\n") + '"""')
    ),
    "block quotes": lambda n, k: _transfer(_valid('"""' + '\\"""' * (n * k // 5) + '"""')),
    "comments": lambda n, k: _query("{ __typename }" + ("\n#" + "x" * k) * n),
    "white space": lambda n, k: _query("{" + (" " * k + "\n") * n + "__typename }"),
    "commas": lambda n, k: _query("{" + "," * (n * k) + "__typename }"),
    "lines and an error": lambda n, k: _query(
        "{" + "\r\n" * (n * k // 4) + _many(min(n, 200), lambda i: f"f{i}") + " }"
    ),
    "numbers": lambda n, k: _query("{ nodes(ids: [" + _many(n, lambda _: "1" * k) + "]) { id } }"),
    "floats": lambda n, k: _query("{ nodes(ids: [" + _many(n, lambda _: "1." + "1" * k) + "]) { id } }"),
    "punctuation": lambda n, k: _query("{" + "}{)(][" * (n * k // 6)),
    "no grammar at all": lambda n, k: _query("\x00\ufffe" * (n * k // 12)),
    "operation name": lambda n, k: {"query": "{ __typename }", "operationName": "x" * (n * k)},
    "document id": lambda n, k: {"documentId": "x" * (n * k)},
    "extensions": lambda n, k: {"query": "{ __typename }", "extensions": {_name(i, 6): "x" * k for i in range(n)}},
    "unknown variables": lambda n, k: {"query": "{ __typename }", "variables": {_name(i, k): "x" for i in range(n)}},
    "values of lists": lambda n, k: _ids(["x" * k for _ in range(n)]),
    "wrong values of lists": lambda n, k: _ids([{"a": "x" * k} for _ in range(n)]),
    "small values": lambda n, k: _ids([[]] * (n * k // 4)),
    "unknown fields of values": lambda n, k: _values({f"f{i}": "x" * k for i in range(n)}),
    "long names of values": lambda n, k: _values({_name(i, k): 1 for i in range(n)}),
    "nested values": lambda n, k: _values({"to": _deep(n), "reference": "x" * k}),
    "a long value": lambda n, k: _values(
        {"idempotencyKey": "x" * (n * k), "fromAccountId": "a", "to": {"username": "u"}, "amount": {}}
    ),
    "a value of another type": lambda n, k: _values("x" * (n * k)),
    "values of batches": lambda n, k: {
        "query": "mutation($b: TransferBatchInput!) { transferBatch(input: $b) { __typename } }",
        "variables": {"b": {"mode": "ATOMIC", "items": [{"reference": "x" * k} for _ in range(n)]}},
    },
    "password of a newcomer": lambda n, k: {
        "query": "mutation($i: SignUpInput!) { signUp(input: $i) { __typename } }",
        "variables": {"i": {"username": "x" * (n * k), "email": "x" * 9, "password": "short"}},
    },
}
"""What is grown, by name: a function of how many, and of how long each is."""


def grown(size: int, count: int, name: str) -> Hostile | None:
    """An element grown to a size; None if so many do not fit."""
    per = size // count
    if per < 1:
        return None
    grow = ELEMENTS[name]
    least, more = (len(json.dumps(grow(count, length))) for length in (12, 24))
    room = min(size, BODY_MAX - 2_000) - least
    length = 12 + max(room * 12 // (more - least), -11) if more > least else per
    made = Hostile(f"{name}, {count} in {size}", grow(count, length))
    return made if made.size < BODY_MAX - 200 else None


def every(sizes: tuple[int, ...] = SIZES, counts: tuple[int, ...] = COUNTS) -> Iterator[Hostile]:
    """Each element, at each size, in each count that fits."""
    for name in ELEMENTS:
        for size in sizes:
            for count in counts:
                found = grown(size, count, name)
                if found is not None:
                    yield found


def mixed(seed: int, count: int) -> Iterator[Hostile]:
    """Documents whose selections, values and definitions are drawn, up to a drawn size."""
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        size = rng.choice(SIZES) * 9 // 10
        text = _mixed(rng, size)
        yield Hostile(f"mixed {seed}-{number}", {"query": text, "variables": {"v": "x" * rng.choice((1, 9_000))}})


def _mixed(rng: random.Random, size: int) -> str:
    longest = rng.choice((1, 8, 90, 1_000, 10_000))
    parts = [_selection(rng, longest, 0) for _ in range(3)]
    written = sum(map(len, parts))
    while written < size:
        parts.append(_selection(rng, longest, 0))
        written += len(parts[-1])
    operation = rng.choice(("query", "mutation", "subscription", "query($v: ID, $w: [Int!] = [1])"))
    tail = _many(rng.randrange(12), lambda i: f"fragment f{i} on Query {{ {_selection(rng, longest, 0)} }}")
    return f"{operation} {{ {' '.join(parts)[:size]} }} {tail}"


def _selection(rng: random.Random, longest: int, depth: int) -> str:
    field = rng.choice(("viewer", "node", "transfer", "nodes", "user", "f" + "x" * rng.randrange(longest)))
    alias = rng.choice(("", "", f"a{rng.randrange(9)}: "))
    arguments = _many(rng.randrange(4), lambda i: f"{rng.choice(('id', 'input', f'a{i}'))}: {_value(rng, longest, 0)}")
    given = f"({arguments})" if arguments else ""
    directive = rng.choice(("", "", "@include(if: $v)", "@skip(if: 1)", f"@d{rng.randrange(5)}"))
    inner = _many(rng.randrange(4 if depth < 4 else 2), lambda _: _selection(rng, longest, depth + 1))
    spread = rng.choice(("", f"...f{rng.randrange(14)} ", "... on Query { __typename } "))
    return f"{alias}{field}{given}{directive}" + (f" {{ {spread}{inner} }}" if inner or spread else "")


def _value(rng: random.Random, longest: int, depth: int) -> str:
    kind = rng.randrange(9 if depth < 8 else 6)
    length = rng.randrange(longest) + 1
    if kind < 6:
        return ('"' + "x" * length + '"', '"""' + "x\n" * length + '"""', "1" * length, "E" * length, "$v", "null")[
            kind
        ]
    inner = [_value(rng, longest, depth + 1) for _ in range(rng.randrange(6))]
    if kind == 6:
        return "[" + " ".join(inner) + "]"
    return "{" + " ".join(f"k{i}: {value}" for i, value in enumerate(inner)) + "}"
