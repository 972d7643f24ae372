"""Fields that read along a path of attributes, which a plan reads without calling a resolver.

    class Entry:
        line: strawberry.Private[Line]
        at: datetime = strawberry.field(resolver=along("line.at"))
        amount: Money = strawberry.field(resolver=made_along(Money, {"minor_units": "line.amount"}))

A plan that asks of `amount` only what its parts tell does not make the `Money`. graphql-core calls the resolvers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, TypeVar

_PATH: Final = "along_path"
_MADE: Final = "along_made"
_LEFT: Final = "left_to_json"

F = TypeVar("F", bound=Callable[..., Any])

Made = tuple[type, Mapping[str, str]]
"""The class of an object, and the path of each of its attributes."""


def along(path: str) -> Callable[[Any], Any]:
    """A resolver that reads attributes, such as `line.entry.at`, beginning at the source."""
    read = attrgetter(_checked(path))

    def resolve(self):  # type: ignore[no-untyped-def]  # the field's own annotation says the type  # noqa: ANN001, ANN202
        return read(self)

    setattr(resolve, _PATH, path)
    return resolve


def made_along(kind: type, parts: Mapping[str, str]) -> Callable[[Any], Any]:
    """A resolver that makes an object of what stands at these paths, by its attributes.

    `parts` may also say of an attribute's attribute, such as `line.text`, that a shorter path leads there.
    """
    reads = {_checked(name): attrgetter(_checked(path)) for name, path in parts.items() if "." not in name}

    def resolve(self):  # type: ignore[no-untyped-def]  # same  # noqa: ANN001, ANN202
        return kind(**{name: read(self) for name, read in reads.items()})

    setattr(resolve, _MADE, (kind, parts))
    return resolve


def path_of(resolver: Callable[..., Any]) -> str | None:
    """The path that a resolver reads along, if it is one of `along`."""
    found: str | None = getattr(resolver, _PATH, None)
    return found


def made_of(resolver: Callable[..., Any]) -> Made | None:
    """What a resolver makes, if it is one of `made_along`."""
    found: Made | None = getattr(resolver, _MADE, None)
    return found


def leave_to_json(kind: type) -> Callable[[F], F]:
    """Say of a scalar's serializer: orjson writes objects of exactly this class as it does. Plans leave them to it."""

    def mark(serialize: F) -> F:
        setattr(serialize, _LEFT, kind)
        return serialize

    return mark


def left_to_json(serialize: Callable[..., Any]) -> type | None:
    """The class whose objects a serializer leaves to orjson."""
    found: type | None = getattr(serialize, _LEFT, None)
    return found


def _checked(path: str) -> str:
    """Paths become part of a function's text."""
    if not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"{path!r} is no path of attributes")
    return path
