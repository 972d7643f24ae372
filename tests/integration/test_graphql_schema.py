"""The schema as a whole: it is described, is exact about money, and has an answer for every refusal."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLUnionType,
    get_named_type,
    is_non_null_type,
)

from tests.integration._graphql import SCHEMA
from wallet_gql.domain import errors as domain
from wallet_gql.domain.money import check_amount, check_currency
from wallet_gql.transports.catalogue.errors import ANSWERS
from wallet_gql.transports.graphql.errors import HANDLERS, ErrorCode
from wallet_gql.transports.graphql.scalars import Unreadable, parse_big_int, parse_currency, parse_datetime
from wallet_gql.transports.rest.history import SpanQuery
from wallet_gql.transports.rest.values import read

OWN_TYPES = {
    name: kind
    for name, kind in SCHEMA.type_map.items()
    if not name.startswith("__") and name not in ("Boolean", "Float", "ID", "Int", "String")
}


def described(kind: Any) -> Iterator[tuple[str, str | None]]:
    """Everything in a type that shall have a description."""
    yield kind.name, kind.description
    if isinstance(kind, GraphQLEnumType):
        yield from ((f"{kind.name}.{name}", value.description) for name, value in kind.values.items())
    if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
        for name, field in kind.fields.items():
            yield f"{kind.name}.{name}", field.description
            for argument_name, argument in getattr(field, "args", {}).items():
                yield f"{kind.name}.{name}({argument_name})", argument.description


@pytest.mark.smoke
def test_everything_is_described() -> None:
    """Every type, field, argument and enum value of the printed schema says what it is."""
    missing = [name for kind in OWN_TYPES.values() for name, text in described(kind) if not text]
    assert missing == []


def test_no_float_anywhere() -> None:
    """No field and no argument is a Float: money is exact."""
    used = {
        get_named_type(part.type).name
        for kind in OWN_TYPES.values()
        for field in getattr(kind, "fields", {}).values()
        for part in (field, *getattr(field, "args", {}).values())
    }
    assert "Float" not in used
    assert "BigInt" in used


def test_every_mutation_answers_with_a_nullable_union() -> None:
    """A failure in one mutation cannot take the answers of those before it: each field is nullable, each a union."""
    assert SCHEMA.mutation_type is not None
    for field in SCHEMA.mutation_type.fields.values():
        assert isinstance(field.type, GraphQLUnionType)
        errors = [kind for kind in field.type.types if "WalletError" in [i.name for i in kind.interfaces]]
        (success,) = set(field.type.types) - set(errors)
        assert success.name.endswith("Success")
        assert {"Refusal", "Unavailable", "InDoubt"} <= {kind.name for kind in errors}
        objects = [f for f in success.fields.values() if isinstance(get_named_type(f.type), GraphQLObjectType)]
        assert not any(is_non_null_type(field.type) for field in objects), f"{success.name} has a non-null object"


MOVE_NO_MONEY = {"signUp", "changePassword", "logIn", "logOut", "logOutEverywhere", "renewSession", "revokeSession"}
MOVE_NO_MONEY |= {"registerMerchant", "updateMerchant", "rotateWebhookSecret", "replayEvents"}
MOVE_NO_MONEY |= {"openAccount", "closeAccount", "setSpendingLimits", "annotateTransfer"}


def test_every_money_mutation_demands_a_key() -> None:
    """Whatever is not known to move no money takes a non-null idempotencyKey, in its input or in each item of it."""
    assert SCHEMA.mutation_type is not None
    for name, field in SCHEMA.mutation_type.fields.items():
        taken = [part.type for argument in field.args.values() for part in keys_of(argument.type)]
        if name in MOVE_NO_MONEY:
            assert taken == []
        else:
            assert [str(kind) for kind in taken] == ["ID!"], name


def keys_of(given: Any) -> Iterator[Any]:
    """The fields called idempotencyKey inside an input."""
    kind = get_named_type(given)
    for name, field in kind.fields.items() if isinstance(kind, GraphQLInputObjectType) else ():
        if name == "idempotencyKey":
            yield field
        else:
            yield from keys_of(field.type)


def test_success_types_of_one_name_only() -> None:
    """A field of one name has one type in all members of a union: clients can select it in each without aliases."""
    unions = (kind for kind in OWN_TYPES.values() if isinstance(kind, GraphQLUnionType))
    for union in unions:
        types: dict[str, set[str]] = {}
        for member in union.types:
            for name, field in member.fields.items():
                types.setdefault(name, set()).add(str(field.type))
        assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}, union.name


ASKED: Final = SimpleNamespace(field_name="asked", path=SimpleNamespace(as_list=lambda: ["asked"]))
"""What a handler looks at of the resolver's info."""


def examples() -> list[domain.WalletError]:
    """One error of every class that a ledger may answer with."""
    return [kind(**{name: _example(name) for name in kind.field_types}) for kind in ANSWERS]


def _example(name: str) -> int | str:
    if name.endswith("_minor") or name in ("maximum", "offender"):
        return 5
    special = {"state": "voided", "limit": "day", "free_at": "2026-01-02T00:00:00Z"}
    if name in special:
        return special[name]
    return "EUR" if name in ("currency", "expected", "given") else "x"


@pytest.mark.parametrize("error", examples(), ids=lambda error: error.code)
def test_every_refusal_has_a_type_in_every_union(error: domain.WalletError) -> None:
    """Whatever the ledger raises, each mutation has a typed answer with its code and message."""
    assert SCHEMA.mutation_type is not None
    for field in SCHEMA.mutation_type.fields.values():
        assert isinstance(field.type, GraphQLUnionType)
        members = {kind.name for kind in field.type.types}
        fitting = [h for h in HANDLERS if isinstance(error, h.exception_type) and h.error_type.__name__ in members]
        answer = fitting[0].handle(error, field=None, info=ASKED)
        assert (answer.code, answer.message) == (ErrorCode(error.code), error.message)
        assert answer.retryable is error.retryable


def test_concrete_types_win_over_the_general_refusal() -> None:
    """Insufficient funds come with their amounts, not as a bare refusal."""
    error = domain.InsufficientFunds("acc_1", 5, 700, "EUR")
    handler = next(handler for handler in HANDLERS if isinstance(error, handler.exception_type))
    answer: Any = handler.handle(error, field=None, info=ASKED)
    assert (answer.available.minor_units, answer.required.decimal()) == (5, "7.00")


@pytest.mark.parametrize(
    ("value", "number"),
    [(5, 5), ("5", 5), ("-7", -7), (0, 0), (2**63 - 1, 2**63 - 1), (str(-(2**63)), -(2**63))],
    ids=repr,
)
def test_big_int_takes_integers_and_digits(value: object, number: int) -> None:
    """BigInt takes an integer or text of digits, within 64 bits."""
    assert parse_big_int(value) == number


@pytest.mark.parametrize(
    "value",
    [1.0, 1.5, True, None, "", "1.0", "1e3", "+1", " 1", "1_0", "٣", "0x1", [1], {}, 2**63, "9" * 19, "9" * 50],
    ids=repr,
)
def test_big_int_refuses_everything_else(value: object) -> None:
    """Floats, bools, exponents, other digits and numbers beyond 64 bits are no numbers to any check."""
    assert isinstance(parse_big_int(value), Unreadable)
    with pytest.raises(domain.InvalidAmount):
        check_amount(parse_big_int(value))  # type: ignore[arg-type]  # that is what it refuses


@pytest.mark.parametrize("value", [978, None, True, ["EUR"]], ids=repr)
def test_currency_code_is_text(value: object) -> None:
    """What is no text is no currency either; that is the ledger's answer, with its path."""
    with pytest.raises(domain.InvalidInput):
        check_currency(parse_currency(value))


NO_MOMENTS: Final = (
    *("yesterday", "2026-11-22T10:00:00", "2026-11-01X00:00:00Z", "2026-11-01 00:00:00Z", "2026-W48-1T00:00:00Z"),
    *("20261101T000000Z", "2026-11-01T00Z", "2026-11-01T00:00:00,5Z", "2026-11-01T00:00:00+00:00:30"),
    *("2026-11-31T00:00:00Z", "0001-01-01T00:00:00+01:00", 5, None),
)


@pytest.mark.parametrize("value", NO_MOMENTS, ids=repr)
def test_moments_need_an_offset(value: object) -> None:
    """DateTime refuses what is no moment, and a time without its offset from UTC."""
    with pytest.raises(GraphQLError, match="DateTime takes"):
        parse_datetime(value)
    with pytest.raises(domain.InvalidInput) as refused:
        read(SpanQuery, {"since": value, "until": "2026-11-22T10:00:00Z"})
    assert [(one.path, one.reason) for one in refused.value.problems] == [(("since",), "MOMENT")]
    assert parse_datetime("2026-11-22T10:00:00+01:00").isoformat() == "2026-11-22T09:00:00+00:00"
