"""Lines of history as rows: equal to lines that are made of records, and read strictly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from wallet_gql.backends.kit.kinds import ENTRY, RECORD, TRANSFER
from wallet_gql.backends.kit.lines import stored_line
from wallet_gql.domain.ids import AccountId, TransferId
from wallet_gql.domain.model import Entry, Record, Transfer, TransferKind
from wallet_gql.storage import HistoryLine

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
ANN, BOB = AccountId("acc_" + "1" * 32), AccountId("acc_" + "2" * 32)
TRANSFER_ID = TransferId("trf_" + "3" * 32)
LINE = HistoryLine(
    Entry(ANN, 7, TRANSFER_ID, -5, 95, AT),
    Transfer(TRANSFER_ID, TransferKind.TRANSFER, ANN, BOB, 5, "EUR", AT, "op:x", "key", reference="tea"),
)
ROW = (*ENTRY.to_row(LINE.entry), *TRANSFER.to_row(LINE.transfer))
SHOWN = ("sequence", "at", "amount_minor", "balance_minor", "transfer_id", "reference", "entry", "transfer")


@pytest.mark.parametrize("row", [ROW, (*ROW, 1), [*ROW, 2]], ids=["alone", "of a group", "a list"])
def test_a_row_is_its_line(row: tuple[object, ...]) -> None:
    """It shows the same, and is equal from both sides, whatever columns stand behind."""
    line = stored_line(row)
    assert [getattr(line, name) for name in SHOWN] == [getattr(LINE, name) for name in SHOWN]
    for other in (LINE, stored_line(ROW), stored_line((*ROW, 9))):
        assert line == other
        assert other == line
        assert not line != other  # noqa: SIM202 - an operator of its own
        assert not other != line  # noqa: SIM202 - same
        assert hash(line) == hash(other)
    assert line != stored_line((*ROW[:4], 96, *ROW[5:]))
    plain: object = ROW
    assert line != plain, "a line is more than its columns"


def test_text_behind_a_records_json_is_refused() -> None:
    """Damage is seen, and not exported as if nothing had been there."""
    row = list(RECORD.to_row(Record("kind", "id", 1, "owner", 1, {"a": 1})))
    place = [column.name for column in RECORD.columns].index("body")
    assert RECORD.from_row(row).body == {"a": 1}
    for text in ('{"a":1}{"b":2}', '{"a":1} ', '{"a":1}x', "", "{"):
        row[place] = text
        with pytest.raises(ValueError, match=r"."):
            RECORD.from_row(row)
