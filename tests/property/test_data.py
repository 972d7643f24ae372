"""What a store must keep is what the domain makes, and the guide says it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from wallet_gql.backends.kit import KINDS
from wallet_gql.backends.kit.kinds import Coding, Kind
from wallet_gql.domain import ids
from wallet_gql.domain.merchants import NAME_MAX as MERCHANT_NAME_MAX
from wallet_gql.domain.merchants import URL_MAX
from wallet_gql.domain.security_events import USER_AGENT_MAX
from wallet_gql.domain.users import EMAIL_MAX, USERNAME_MAX, username_claim
from wallet_gql.idempotency import guard
from wallet_gql.idempotency.keys import KEY_MAX
from wallet_gql.testing.data import ID, TEXTS, table
from wallet_gql.verbs.attempts import REFERENCE_MAX

GUIDE: Final = Path(__file__).resolve().parents[2] / "docs" / "writing-a-backend.md"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.table)
def test_every_column_of_text_has_a_length(kind: Kind[object]) -> None:
    """A new column is in the table, an old one is not forgotten there, and every enum's word fits."""
    texts = [c for c in kind.columns if c.coding in (Coding.TEXT, Coding.WORD, Coding.JSON)]
    assert {c.name for c in texts} == TEXTS[kind.table].keys()
    words = [(c.name, word.value) for c in texts if c.words for word in c.words]
    assert [word for name, word in words if len(word) > TEXTS[kind.table][name].length] == []


def test_what_the_domain_makes_fits() -> None:
    """Ids, keys, references, names, callers and the largest bodies."""
    made = (
        ids.make_user_id(1, 1),
        ids.make_account_id(1, 1, 1),
        ids.make_transfer_id(1, 1, 1),
        ids.make_hold_id(1, 1, 1),
    )
    assert {len(name) for name in made} == {ID}
    assert min(TEXTS["receipts"]["key"].length, TEXTS["transfers"]["idempotency_key"].length) >= KEY_MAX
    assert min(TEXTS[name]["reference"].length for name in ("transfers", "holds")) >= REFERENCE_MAX
    assert len(username_claim("u" * USERNAME_MAX).id) <= TEXTS["records"]["id"].length
    assert TEXTS["records"]["owner"].length >= guard._CALLER_MAX
    others = 12 * (MERCHANT_NAME_MAX + URL_MAX + USER_AGENT_MAX + EMAIL_MAX)
    assert max(guard.OUTCOME_MAX, others) <= TEXTS["records"]["body"].length


def test_the_guide_shows_the_table() -> None:
    """Word for word."""
    assert table() in GUIDE.read_text(encoding="utf-8"), table()
