"""Storage URLs of Cassandra, and what cannot be one."""

from __future__ import annotations

import pytest

from wallet_gql.backends.cassandra.url import Address, parse_address
from wallet_gql.domain.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("cassandra://a/wallet", Address(("a",), 9042, "wallet", 16, None, None)),
        ("cassandra://a,b,c/w2?partitions=1", Address(("a", "b", "c"), 9042, "w2", 1, None, None)),
        ("cassandra://a:19042,b:19042/w", Address(("a", "b"), 19042, "w", 16, None, None)),
        ("cassandra://me:s%40t@a/w", Address(("a",), 9042, "w", 16, "me", "s@t")),
    ],
)
def test_what_a_url_says(url: str, expected: Address) -> None:
    """Hosts, one port, the keyspace, partitions, and who asks."""
    assert parse_address(url) == expected
    assert "s@t" not in expected.shown


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("cassandra:///wallet", "HOST"),
        ("cassandra://a", "KEYSPACE"),
        ("cassandra://a/Wallet", "small letters"),
        ("cassandra://a/w;drop", "small letters"),
        ("cassandra://a:1,b:2/w", "one port"),
        ("cassandra://a/w?partitions=0", "whole number"),
        ("cassandra://a/w?partitions=4096", "whole number"),
        ("cassandra://a/w?partitions=x", "whole number"),
        ("cassandra://a/w?copies=3", "cannot be used"),
        ("cassandra://me@a/w", "password"),
    ],
)
def test_what_cannot_be_one(url: str, remedy: str) -> None:
    """Each is refused by a line that says what to write."""
    with pytest.raises(ConfigurationError, match=remedy):
        parse_address(url)
