"""Canonical JSON is byte for byte what it was when the first fingerprints were taken."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wallet_gql.domain.model import TransferKind
from wallet_gql.domain.security_events import Visitor
from wallet_gql.idempotency.canonical import canonical

TEXTS = st.text(st.characters(exclude_categories=())) | st.text('\x00\x1f"\\/\x7f\x80é\u2028\ud800\udc00😀 az')
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | TEXTS | st.sampled_from(TransferKind),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
@example({"b": "\x7f", "a": "\ud800", "é": 2**64, "\U0001f600": -(2**63), "z": ("/", "\\", "\n")})
@example(["1", "transfer", {"amountMinor": 10**15, "reference": "", "from": "acc_1"}])
def test_the_text_is_that_of_the_standard_library(value: object) -> None:
    """Whatever plain data it is: escapes, characters beyond ASCII, any number, keys in any order."""
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), Visitor("192.0.2.1"), b"bytes", {1, 2}])
def test_what_is_no_json_is_refused(value: object) -> None:
    """As ever: no type gets a form of its own that a later release would have to keep."""
    with pytest.raises(TypeError):
        canonical({"value": value})
