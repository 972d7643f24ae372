"""What an error of the domain tells stands beside the members of a problem (RFC 9457) and must hide none of them."""

from __future__ import annotations

from collections.abc import Iterator

from wallet_gql.domain.errors import WalletError

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable"}


def kinds(kind: type[WalletError] = WalletError) -> Iterator[type[WalletError]]:
    """Every class of error, with those made from it."""
    yield kind
    for each in kind.__subclasses__():
        yield from kinds(each)


def test_no_field_of_an_error_hides_a_member_of_a_problem() -> None:
    """A field called `status` was answered in place of the HTTP status."""
    own = {kind.__name__: set(kind.__annotations__) - set(WalletError.__annotations__) for kind in kinds()}
    assert len(own) > 20
    assert {name: found for name, fields in own.items() if (found := fields & MEMBERS)} == {}
