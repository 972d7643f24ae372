"""The canonical form of idempotency keys, for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_gql.domain.errors import InvalidInput
from wallet_gql.idempotency import canonical_key, check_key
from wallet_gql.idempotency.keys import header_key, header_value


def quoted(key: str) -> str:
    """As a structured-field string."""
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12) | st.text(max_size=6))
def test_a_canonical_form_is_its_own(text: str) -> None:
    """Whatever is sent: every spelling of a key that is accepted is the same key, in a header and elsewhere."""
    try:
        key = canonical_key(text)
    except InvalidInput:
        with pytest.raises(InvalidInput):
            header_key(text)
        return
    assert canonical_key(key) == key == check_key(key)
    assert canonical_key(quoted(key)) == key == header_key(header_value([f" {quoted(key)}\t"]))
    try:
        assert header_key(text) == key
    except InvalidInput:
        assert not text.startswith('"')


def test_a1_what_a_spelling_means() -> None:
    """Escapes are undone; a key may hold what it cannot begin with."""
    assert canonical_key(r'"a\"b\\c"') == r'a"b\c'
    assert header_key('"a, b"') == canonical_key("a, b") == "a, b"
    assert canonical_key("k" * 255) == canonical_key('"' + "k" * 255 + '"') == "k" * 255
    for bad in (r'"a\b"', '"k";a=1', '"k"; a', '"k",', '"' + "k" * 256 + '"', "k" * 256, "", '""'):
        with pytest.raises(InvalidInput):
            canonical_key(bad)
