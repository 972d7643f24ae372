"""Texts for people that remember what they are made of, so that they can be told in other languages, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .currencies import EXPONENTS, format_decimal
from .frozen import frozen


@frozen
class Amount:
    """An amount in a text. `currency` is None where an older version did not store it, or one that is none any more."""

    amount_minor: int
    currency: str | None

    def __str__(self) -> str:
        """As English texts have it: `12.30 EUR`."""
        if self.currency not in EXPONENTS:
            return f"{self.amount_minor} minor units"
        return f"{format_decimal(self.amount_minor, self.currency)} {self.currency}"


def fill(words: str, values: Mapping[str, object]) -> str:
    """The words with the values that they name in braces. A value that is None is left out, with the space before."""
    for name, value in values.items():
        if value is None:
            words = words.replace(f" {{{name}}}", "")
    return words.format(**values)


Tell = Callable[[str, Mapping[str, object]], str]
"""Makes the text of some words and values, in some language. `fill` does it in English."""


class Worded(str):
    """A text in English, with the `words` and `values` that it is made of, and a `reason` for programs."""

    __slots__ = ("reason", "values", "words")
    reason: str
    words: str
    values: Mapping[str, object]

    @classmethod
    def of(cls, reason: str, words: str, values: Mapping[str, object]) -> Worded:
        """The text of some words."""
        made = cls(fill(words, values))
        made.reason, made.words, made.values = reason, words, values
        return made


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a value cannot be taken: a code for programs, and what it must look like. The words name values in braces."""

    code: str
    words: str

    def __call__(self, **values: object) -> Worded:
        """The text with the values."""
        return Worded.of(self.code, self.words, values)
