"""No spreadsheet runs what others wrote in a statement, wherever it splits the rows."""

from __future__ import annotations

import csv
import io
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from tests.integration._rest import Rest, client_of
from tests.integration._server import Person, Server
from wallet_gql.transports.rest.history import FORMULA, inert

pytestmark = pytest.mark.serving()

DELIMITERS: Final = ",;|\t"
"""Where spreadsheets split rows, by their language and settings."""

SIGNS: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
SPAN: Final = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
REFERENCES: Final = (
    "x;=1+1;",
    "\uff1d1+1",
    " =1",
    "x;@a",
    'a;"=1',
    'a, b; "\uff0b1',
    "x|-2",
    "x;;+1",
    "-1",
    "plain; text, with a \N{MINUS SIGN} and a-b=c",
)


def formulas(text: str, delimiter: str, texts: slice) -> list[str]:
    """The cells that would be run. In rows that are split as they were written, amounts may be negative."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    cells = (cell.strip() for row in rows for cell in (row[texts] if delimiter == "," else row))
    return [cell for cell in cells if cell.startswith(SIGNS)]


def test_no_reference_is_run(server: Server, people: list[Person]) -> None:
    """References that would be formulas are none in the file; others are as they were."""
    payer, payee = people
    with client_of(server, payer) as http:
        ann = Rest(http, payer)
        for reference in REFERENCES:
            assert ann.pay(payee.username, 100, reference=reference).status_code == 201
        file = ann.ask("GET", f"/v1/account/{payer.account_id}/statement.csv", params=SPAN).text
    told = [row[4] for row in csv.reader(io.StringIO(file, newline=""))][2:]
    assert (len(told), told[-1]) == (len(REFERENCES), REFERENCES[-1])
    assert [text.replace("'", "") for text in told] == [*REFERENCES]
    for delimiter in DELIMITERS:
        assert formulas(file, delimiter, slice(2, 5)) == []


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_no_short_text_is_run(delimiter: str) -> None:
    """All texts of up to four of the characters that matter."""
    written = io.StringIO()
    rows = csv.writer(written)
    for length in range(5):
        for letters in product(f'= "x{delimiter};', repeat=length):
            rows.writerow(("x", inert("".join(letters)), inert("".join(letters[::-1])), "x"))
    assert formulas(written.getvalue(), delimiter, slice(1, 3)) == []


def test_the_example_wallet_has_the_same_rule() -> None:
    """The pattern in its source is that of REST."""
    source = (Path(__file__).parents[2] / "examples" / "web" / "src" / "csv.ts").read_text(encoding="utf-8")
    assert f"const FORMULA = /{FORMULA.pattern}/g;" in source
