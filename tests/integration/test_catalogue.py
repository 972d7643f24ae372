"""The catalogue is complete: every error and every operation has its form in both APIs, and nothing else has one."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from graphql import GraphQLInputType, GraphQLUnionType, get_named_type, is_input_object_type

from wallet_gql.domain import rules
from wallet_gql.domain.errors import (
    Category,
    ConfigurationError,
    InvariantViolated,
    Rejected,
    Unauthenticated,
    WalletError,
    error_classes,
)
from wallet_gql.identity import Identity
from wallet_gql.transports.catalogue.errors import ANSWERS, CODES, STATUS, code_of
from wallet_gql.transports.catalogue.operations import BATCH_ITEM, KEYED, NAMES, OPERATIONS, OUTAGES
from wallet_gql.transports.graphql.errors import HANDLERS, Refusal, as_data, type_of
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.transports.http.errors import problem
from wallet_gql.transports.rest import routes as rest
from wallet_gql.verbs.ledger import Ledger
from wallet_gql.verbs.merchants import Merchants

CORE: Final = schema._schema
KINDS: Final = [
    one for one in error_classes() if one.__module__.startswith("wallet_gql.domain.") and one is not Rejected
]
OURS: Final = {ConfigurationError, InvariantViolated}
"""What no client is ever told."""

EXAMPLES: Final[dict[str, Any]] = {"str": "x", "int": 7, "str | None": "EUR"}
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def example(kind: type[WalletError]) -> WalletError:
    """An error of a class."""
    special = {"state": "voided", "currency": "EUR", "expected": "EUR", "given": "USD"}
    special |= {"limit": "day", "free_at": "2026-01-02T00:00:00Z"}
    return kind(**{name: special.get(name, EXAMPLES[hint]) for name, hint in kind.field_types.items()})


@each_kind
def test_every_error_says_everything_about_itself(kind: type[WalletError]) -> None:
    """Code, category, message and docs stand in the class; a kind of outage may have its parent's category."""
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", vars(kind)["code"])
    assert vars(kind)["__doc__"].strip()
    if kind not in OURS:
        assert "category" in vars(kind) or kind.__mro__[1] not in {WalletError, Rejected}
        assert vars(kind)["words"]
        assert "{" not in example(kind).message
    assert kind.category in STATUS
    assert kind.retryable is kind.category.retryable


@each_kind
def test_every_error_has_its_form_in_both_apis(kind: type[WalletError]) -> None:
    """An answer is data in GraphQL and a problem in REST; our own bugs are neither."""
    if kind in OURS:
        assert (kind.category, type_of(kind)) == (Category.INTERNAL, None)
        return
    error = example(kind)
    assert problem(error).status_code == STATUS[kind.category]
    if kind is Unauthenticated:
        assert type_of(kind) is None
        return
    assert kind in ANSWERS
    made = as_data(error)
    assert (made.code.value, made.message, made.retryable) == (kind.code, error.message, kind.retryable)


def test_every_error_belongs_to_an_operation() -> None:
    """What can be answered is documented somewhere."""
    named = {kind for operation in OPERATIONS.values() for kind in operation.refusals} | {*BATCH_ITEM, *OUTAGES}
    assert {kind for kind in KINDS if issubclass(kind, Rejected)} <= named


def test_handlers_go_from_the_special_to_the_general() -> None:
    """No handler stands behind one that would take its errors."""
    for place, handler in enumerate(HANDLERS):
        assert not any(issubclass(handler.exception_type, before.exception_type) for before in HANDLERS[:place])


def test_the_names_are_those_of_both_apis() -> None:
    """Each name is an operation of REST or a field of a root of GraphQL, and each of those is in the catalogue."""
    roots = [root for root in (CORE.query_type, CORE.mutation_type, CORE.subscription_type) if root]
    assert {operation.name for operation in rest.OPERATIONS} | {name for root in roots for name in root.fields} == NAMES


def takes_key(given: GraphQLInputType, seen: set[str]) -> bool:
    """Whether an input has an idempotency key somewhere inside."""
    kind = get_named_type(given)
    if not is_input_object_type(kind) or kind.name in seen:
        return False
    seen.add(kind.name)
    return "idempotencyKey" in kind.fields or any(takes_key(field.type, seen) for field in kind.fields.values())


def test_keyed_operations_take_a_key() -> None:
    """The catalogue and the inputs agree on what moves money."""
    assert CORE.mutation_type is not None
    taking = {
        name
        for name, field in CORE.mutation_type.fields.items()
        if any(takes_key(argument.type, set()) for argument in field.args.values())
    }
    assert taking == KEYED & set(CORE.mutation_type.fields)


def test_unions_are_what_the_catalogue_says() -> None:
    """A mutation's result is its success, the types of its refusals, and what any mutation may end in."""
    assert CORE.mutation_type is not None
    for name, field in CORE.mutation_type.fields.items():
        assert isinstance(field.type, GraphQLUnionType)
        entry = OPERATIONS[name]
        typed = {type_of(kind) for kind in entry.refusals if kind not in entry.untyped}
        expected = {one.__name__ for one in typed if one} | {Refusal.__name__, "Unavailable", "InDoubt"}
        success = f"{name[0].upper()}{name[1:]}Success"
        assert {member.name for member in field.type.types} == {success, *expected}, name


SAID_BY: Final[dict[str, tuple[Any, ...]]] = {
    "closeAccount": (Ledger.set_account_status, rules.set_account_status),
    "holdForMerchant": (Merchants.hold, rules.place_hold),
    "payMerchant": (Merchants.pay,),
    "readAccount": (Ledger.account,),
    "readHold": (Ledger.hold,),
    "readTransfer": (Ledger.transfer_by_id,),
    "refundPayment": (Merchants.refund, rules.reverse_transfer),
    "registerMerchant": (Merchants.register,),
    "rotateWebhookSecret": (Merchants.rotate_secret,),
    "updateMerchant": (Merchants.update,),
}
"""The verb and the rule of an operation, where they have other names."""

MISSING: Final = {
    ("closeAccount", "NotPermitted"),  # the rule refuses freezing so, never closing
}
"""What a rule documents and the catalogue does not say."""


def test_what_rules_document_is_in_the_catalogue() -> None:
    """Each refusal that the docstring of a verb or its rule names is one of the operation's."""
    kinds = {kind.__name__: kind for kind in KINDS if issubclass(kind, Rejected)}
    missing, found = set(), set()
    for name, operation in OPERATIONS.items():
        own = re.sub(r"([A-Z])", lambda match: f"_{match[1].lower()}", name)
        sources = SAID_BY.get(name, tuple(getattr(place, own, None) for place in (Ledger, Identity, rules)))
        documented = {word for source in sources for word in re.findall(r"\w+", source.__doc__ or "") if word in kinds}
        if operation.refusals:
            said = (*operation.refusals, *operation.unlisted)
            missing |= {(name, word) for word in documented if kinds[word] not in said}
        found |= {name} if documented else set()
    assert missing == MISSING
    assert found >= KEYED - {"transferBatch", "topUp", "beginTopUp"}


def test_exceptions_are_refusals() -> None:
    """What comes without its own type has one, and is something that the operation refuses with."""
    for operation in OPERATIONS.values():
        assert set(operation.untyped) <= set(operation.refusals)
        assert all(type_of(kind) is not Refusal for kind in operation.untyped)


def test_codes_of_the_transports_have_names_of_their_own() -> None:
    """A code is in the list once, and the framework's own refusals find theirs by status."""
    names = [code.name for code in CODES]
    assert len(set(names)) == len(names)
    assert {code_of(status).name for status in (code.status for code in CODES)} <= set(names)
