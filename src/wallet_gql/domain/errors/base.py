"""What every error has, and how a remembered refusal comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from typing import ClassVar, dataclass_transform

from ..words import Amount, Tell, Worded, fill

__all__ = [
    "Category",
    "ConfigurationError",
    "Field",
    "InvariantViolated",
    "Rejected",
    "WalletError",
    "error_classes",
    "restore",
]

Field = str | int | None


class Category(Enum):
    """The category of an error. Each transport has one status for each category."""

    MALFORMED = auto()
    """The input has the wrong shape. The idempotency key was not used up."""
    UNAUTHENTICATED = auto()
    """There is no session, or the log-in was wrong."""
    FORBIDDEN = auto()
    """This act belongs to somebody else, or needs a fresh log-in."""
    NOT_FOUND = auto()
    """It does not exist, or the caller may not see it."""
    CONFLICT = auto()
    """The present state forbids it: funds, a frozen account, a closed hold, a taken name."""
    CONTRADICTION = auto()
    """The request contradicts something that will not change, or an earlier use of the key."""
    RATE_LIMITED = auto()
    """Too many requests. Nothing changed."""
    UNAVAILABLE = auto()
    """The store cannot do it now. Nothing changed."""
    IN_DOUBT = auto()
    """It is unknown whether it happened."""
    INTERNAL = auto()
    """A bug or a wrong configuration of ours. Clients get no details."""

    @property
    def retryable(self) -> bool:
        """Whether the same request, with the same idempotency key, may succeed later."""
        return self in {Category.RATE_LIMITED, Category.UNAVAILABLE, Category.IN_DOUBT}


_MINOR = "_minor"

_NOT_FIELDS = frozenset({"message", "detail", "problems"})
"""Options of an error's constructor: its message, and details for the log."""


@dataclass_transform(eq_default=False, field_specifiers=(field,))
class WalletError(Exception):
    """The root of all errors.

    A subclass gives its `code`, its `category`, the text of its message as `words`, and its values as annotated
    fields, such as `account_id: str`. Its constructor takes the fields in this order; `words` may name them in braces.
    Its docstring is its line in `docs/errors.md`, in the GraphQL schema and in the OpenAPI file.
    """

    code: ClassVar[str] = "WALLET_ERROR"
    """Stable and documented."""
    category: ClassVar[Category] = Category.INTERNAL
    words: ClassVar[str] = ""
    """The message, with the names of fields in braces; `{held}` is the amount of `held_minor` and `currency`."""
    retryable: ClassVar[bool] = False
    """Whether to send the request again, with the same idempotency key. Follows from the category."""
    stays_inside: ClassVar[bool] = False
    """Whether a store deals with the error itself, so that no caller ever gets it and no list of errors names it."""
    field_types: ClassVar[Mapping[str, str]] = {}
    """The name and the type (`str`, `int`, `str | None`) of each value, in the constructor's order."""
    fields: dict[str, Field]
    """The values by name."""
    message: str
    """What clients are told: what went wrong and what to do next."""
    detail: str = ""
    """For the log and for operators: what a driver said, say. No transport sends it; clients get `message`."""

    def __init_subclass__(cls) -> None:
        """Make the constructor from the annotated fields."""
        super().__init_subclass__()
        dataclass(eq=False, repr=False)(cls)
        cls.retryable = cls.category.retryable
        cls.field_types = {one.name: str(one.type) for one in fields(cls) if one.name not in _NOT_FIELDS}  # type: ignore[arg-type]  # made one just now

    def __post_init__(self) -> None:
        self.fields = {name: getattr(self, name) for name in self.field_types}
        self.message = self.text()
        super().__init__(self.message)

    def text(self, tell: Tell = fill) -> str:
        """The message: `words` with the values, in the language of `tell`."""
        return tell(self.words, self.shown())

    def shown(self) -> dict[str, object]:
        """What `words` may name: the fields; amounts without their `_minor`."""
        currency = self.fields.get("currency")
        amounts = {
            name.removesuffix(_MINOR): Amount(int(minor), None if currency is None else str(currency))
            for name, minor in self.fields.items()
            if name.endswith(_MINOR) and minor is not None
        }
        return {**vars(self), **amounts}

    def worded(self) -> Worded:
        """The message with what it is made of; its reason is the code."""
        return Worded.of(self.code, self.words, self.shown())

    def __str__(self) -> str:
        """For the log: the message with the detail."""
        return f"{self.message} ({self.detail})" if self.detail else self.message


class Rejected(WalletError):
    """The ledger said no and no money moved. Correct the request; if the refusal is remembered, use a new key.

    `remembered` tells whether the refusal is kept under the key, so that a late duplicate cannot turn a no into a yes.
    """

    code = "REJECTED"
    category = Category.CONFLICT
    remembered: ClassVar[bool] = True


def error_classes(root: type[WalletError] = WalletError) -> list[type[WalletError]]:
    """Every error class below `root` that callers may get, parents before children, in the order of definition."""
    found: list[type[WalletError]] = []
    for child in root.__subclasses__():
        if not child.stays_inside:
            found += [child, *error_classes(child)]
    return found


def restore(code: str, fields: dict[str, Field]) -> Rejected:
    """The refusal that a receipt remembers, as it was first raised.

    Raises:
        InvariantViolated: the stored code is unknown to this version.
    """
    for kind in error_classes(Rejected):
        if kind.code == code and issubclass(kind, Rejected):
            return kind(**fields)
    raise InvariantViolated(f"a receipt remembers the unknown refusal {code!r}")


class ConfigurationError(WalletError):
    """The wallet cannot start like this. The message names each fault and its remedy."""

    code = "CONFIGURATION"
    words = "{message}"
    message: str


class InvariantViolated(WalletError):
    """A bug of ours; the log has it. Mostly nothing was written, but it may have been: ask again with the same key."""

    code = "INTERNAL"
    words = "{message}"
    message: str
