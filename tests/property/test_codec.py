"""Records to plain JSON and back."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.domain import codec
from wallet_gql.domain.errors import InvariantViolated, Rejected, WalletError, error_classes, restore
from wallet_gql.domain.ids import HoldId, TransferId, make_account_id, make_user_id
from wallet_gql.domain.model import Account, Hold, HoldState, Receipt, Record, Transfer, TransferKind
from wallet_gql.transports.graphql.scalars import show_datetime

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
OWNER = make_user_id(1, 1)
ACCOUNT = make_account_id(5, 1, 1)
OTHER = make_account_id(6, 1, 2)
RECORDS = [
    Account(ACCOUNT, OWNER, "EUR", AT, AT + timedelta(seconds=1), posted_minor=9, held_minor=4, sequence=3),
    Transfer(
        TransferId("t"), TransferKind.CAPTURE, ACCOUNT, OTHER, 9, "EUR", AT, OWNER, "k", 1, None, HoldId("h"), "x"
    ),
    Hold(HoldId("h"), ACCOUNT, OTHER, OWNER, 9, "EUR", AT, None),
    Hold(HoldId("h"), ACCOUNT, OTHER, OWNER, 9, "EUR", AT, AT, HoldState.VOIDED, 0, AT, None, "ref"),
    Receipt(5, OWNER, "k", "transfer", "f", AT, TransferId("t"), '{"ok":{}}'),
    Record("user", "u", 5, OWNER, 1, {"a": 1, "b": [None, True]}, AT),
]


@pytest.mark.parametrize("record", RECORDS, ids=[f"{n}-{type(r).__name__}" for n, r in enumerate(RECORDS)])
def test_records_survive_json(record: object) -> None:
    """Encode, print, parse, decode gives an equal record."""
    plain = json.loads(json.dumps(codec.encode(record)))

    assert record == codec.decode(type(record), plain)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 - made aware below
def test_times_survive_as_whole_microseconds(naive: datetime) -> None:
    """No time loses its microseconds."""
    at = naive.replace(tzinfo=UTC)

    assert at == codec.from_micros(codec.to_micros(at))


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_shown_as_rfc_3339(at: datetime) -> None:
    """The API shows them as Python does."""
    assert show_datetime(at) == at.isoformat()


def test_unknown_fields_are_refused() -> None:
    """Data of a newer format is not half understood."""
    with pytest.raises(InvariantViolated, match="Record"):
        codec.decode(Record, {"kind": "user", "surprise": 1})


@pytest.mark.parametrize("kind", error_classes(Rejected), ids=lambda kind: kind.code)
def test_every_refusal_comes_back_from_its_code_and_fields(kind: type[WalletError]) -> None:
    """A receipt can remember any refusal and tell it again in the same words."""
    first = kind(**{name: 7 if hint == "int" else "text" for name, hint in kind.field_types.items()})

    again = restore(first.code, first.fields)

    assert (type(first), first.message, first.fields) == (type(again), again.message, again.fields)


@pytest.mark.parametrize(
    ("code", "about", "amount"),
    [
        ("CAPTURE_EXCEEDS_HOLD", "hold_id", "held_minor"),
        ("REVERSAL_EXCEEDS_ORIGINAL", "transfer_id", "remaining_minor"),
    ],
)
def test_refusals_of_older_receipts_come_back(code: str, about: str, amount: str) -> None:
    """Receipts that were written before these refusals had a currency are restored without one."""
    again = restore(code, {about: "it", amount: 5, "requested_minor": 7})

    assert again.fields == {about: "it", amount: 5, "requested_minor": 7, "currency": None}
    assert "5 minor units" in again.message


def test_codes_are_unique_and_unknown_ones_are_refused() -> None:
    """A code names one class."""
    codes = [kind.code for kind in error_classes()]

    assert len(codes) == len(set(codes))
    with pytest.raises(InvariantViolated, match="NO_SUCH"):
        restore("NO_SUCH", {})
