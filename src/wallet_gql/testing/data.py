"""The least that a store must be able to keep: the longest texts, largest numbers and finest times of the domain.

The suite writes values of these lengths (`conformance`), the guide for authors shows the table, and a test compares
both with the limits of the domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..backends.kit import KINDS
from ..domain.ids import SLOTS
from ..domain.money import BALANCE_MAX_MINOR
from ..idempotency.guard import OUTCOME_MAX
from ..idempotency.keys import KEY_MAX
from ..verbs.attempts import REFERENCE_MAX

ID: Final = 36
"""The length of an id such as `acc_0193…`."""

NAME: Final = 255
"""The length of a name that other programs choose: an actor, the id of a record, a system account with its node."""

WORD: Final = 64
"""The length of a word of our own: a kind, an operation, a digest."""


@dataclass(frozen=True, slots=True)
class Text:
    """A column's text: at most `length` characters. If `plain`, all of them are printable ASCII."""

    length: int
    plain: bool = True

    def __str__(self) -> str:
        return f"{self.length:,} {'of printable ASCII' if self.plain else 'of any Unicode, up to four bytes each'}"


_ID, _NAME, _WORD, _KEY = Text(ID), Text(NAME), Text(WORD), Text(KEY_MAX)
_CURRENCY: Final = Text(3)
_REFERENCE: Final = Text(REFERENCE_MAX, plain=False)

TEXTS: Final[Mapping[str, Mapping[str, Text]]] = {
    "accounts": {"id": _ID, "owner": _ID, "currency": _CURRENCY, "status": _WORD},
    "entries": {"account_id": _ID, "transfer_id": _ID},
    "system_entries": {"account_id": _NAME, "transfer_id": _ID},
    "transfers": {
        "id": _ID,
        "kind": _WORD,
        "debit_account_id": _NAME,
        "credit_account_id": _NAME,
        "currency": _CURRENCY,
        "actor": _NAME,
        "idempotency_key": _KEY,
        "reverses": _ID,
        "hold_id": _ID,
        "reference": _REFERENCE,
    },
    "holds": {
        "id": _ID,
        "account_id": _ID,
        "payee_account_id": _NAME,
        "closer": _NAME,
        "currency": _CURRENCY,
        "state": _WORD,
        "transfer_id": _ID,
        "reference": _REFERENCE,
    },
    "receipts": {
        "actor": _NAME,
        "key": _KEY,
        "operation": _WORD,
        "fingerprint": _WORD,
        "transfer_id": _ID,
        "outcome": Text(64 * 1024, plain=False),
    },
    "records": {
        "kind": _WORD,
        "id": _NAME,
        "owner": Text(NAME, plain=False),
        "body": Text(OUTCOME_MAX, plain=False),
    },
}
"""The longest text by table and column; an `outcome` and a `body` are JSON."""

_NUMBERS: Final = f"""\
Amounts, balances, sequences and versions are whole numbers up to 2^63 - 1 ({BALANCE_MAX_MINOR:,}), also as sums of one
node and currency; entries and system entries may be negative. A slot is 0 to {SLOTS - 1:,}. Times are UTC with
microseconds, from 1970 to 9999-12-31T23:59:59.999999, or absent where the record's field may be None.
"""


def table() -> str:
    """The table and the rules below it, as the guide for authors shows them."""
    lines = ["| table | column | characters, at most |", "|---|---|---|"]
    for kind in KINDS:
        for column, text in TEXTS[kind.table].items():
            lines.append(f"| `{kind.table}` | `{column}` | {text} |")
    return "\n".join([*lines, "", _NUMBERS])
