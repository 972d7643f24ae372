"""The JSON of REST. Input is checked strictly: no unknown member, no float, no conversion between types.

Members are camelCase. An amount is `{"minorUnits": "1230", "currency": "EUR"}`. Minor units and sequences are sent as
text, because JSON numbers above 2^53 lose digits in JavaScript; they are accepted as text of digits or as an integer.
Enums are written by the names of their members, such as `OPEN`. All of it is as in GraphQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

from ...domain.annotations import CATEGORY_MAX, PAIR_NAME_MAX, PAIR_VALUE_MAX, PAIRS_MAX
from ...domain.errors import InvalidAmount, InvalidInput, Problem, reasons
from ...domain.ids import AccountId, is_id, no_id
from ...domain.model import HoldState, TransferKind
from ...domain.money import AMOUNT_MAX_MINOR, EXPONENTS, check_amount, check_currency, format_decimal
from ...domain.security_events import is_event_id
from ...domain.words import Reason, Worded
from ...idempotency.keys import KEY_MAX
from ...integrations.webhooks.dead_letters import is_letter_id
from ...verbs.attempts import REFERENCE_MAX
from ...verbs.ledger import To
from ...verbs.parties import Direction
from ..catalogue.errors import PROBLEMS_MAX
from ..catalogue.lists import ListOrder
from ..catalogue.values import moment, whole_number

T = TypeVar("T")

COUNT_MAX: Final = 2**63 - 1


def id_pattern(prefix: str) -> str:
    """What ids with this prefix look like."""
    return f"^{prefix}_[0-9a-f]{{12}}7[0-9a-f]{{3}}[89ab][0-9a-f]{{15}}$"


def _minor_units(value: object) -> int:
    """An amount that one command may move."""
    number = whole_number(value)
    try:
        return check_amount(value if number is None else number)  # type: ignore[arg-type]  # it refuses all but an int
    except InvalidAmount as error:
        raise ValueError(error.reason, error.code) from None


def _currency(code: str) -> str:
    """A code of the list; it is checked here so that it is told with its path, beside all else that is wrong."""
    try:
        return check_currency(code)
    except InvalidInput as error:
        raise ValueError(error.reason) from None


def _count(value: object) -> int:
    number = whole_number(value)
    if number is None or not 0 <= number <= COUNT_MAX:
        raise ValueError(reasons.NUMBER())
    return number


def _moment(value: object) -> datetime:
    found = moment(value)
    if found is None:
        raise ValueError(reasons.MOMENT())
    return found


def _must_be(is_one: Callable[[str], bool], why: Callable[[str], Worded]) -> AfterValidator:
    """A check of ids: no other text is looked for in the store."""

    def check(value: str) -> str:
        if not is_one(value):
            raise ValueError(why(value))
        return value

    return AfterValidator(check)


def _id(prefix: str) -> AfterValidator:
    return _must_be(partial(is_id, prefix), partial(no_id, prefix))


def _no_cursor(_: str) -> Worded:
    return reasons.CURSOR()


class ByName:
    """Marks an enum that is written by the names of its members: `OPEN`, not `open`."""

    def __get_pydantic_core_schema__(self, source: type[Enum], handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Take and give names."""
        assert all(one.name == str(one.value).upper() for one in source)

        def member(value: object) -> Enum:
            if isinstance(value, source):
                return value
            if isinstance(value, str) and value in source.__members__:
                return source[value]
            raise ValueError(reasons.CHOICE(choices=", ".join(source.__members__)))

        name = core_schema.plain_serializer_function_ser_schema(lambda one: one.name)
        return core_schema.no_info_before_validator_function(member, handler(source), serialization=name)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.BeforeValidatorFunctionSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The enum's schema, with the names."""
        found = handler(schema["schema"])
        kind = handler.resolve_ref_schema(found)
        kind["enum"] = [str(value).upper() for value in kind["enum"]]
        return found


BY_NAME: Final = ByName()
TransferKindName = Annotated[TransferKind, BY_NAME]
HoldStateName = Annotated[HoldState, BY_NAME]
DirectionName = Annotated[Direction, BY_NAME]
ListOrderName = Annotated[ListOrder, BY_NAME]

Text = Annotated[str, WithJsonSchema({"type": "string"})]
Sequence = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9]+$"})]
Version = Annotated[
    str,
    Field(description="Grows with every change. Keep the answer with the greater one."),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+$"}),
]
Count = Annotated[int, BeforeValidator(_count)]
Place = Annotated[
    int,
    BeforeValidator(_count),
    Field(ge=1, le=10**18 - 1),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"},
                {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
            ]
        }
    ),
]
"""A sequence, as text of digits or as an integer."""
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
AccountIdText = Annotated[
    str,
    _id("acc"),
    WithJsonSchema({"type": "string", "pattern": id_pattern("acc")}),
]
HoldIdText = Annotated[
    str,
    _id("hld"),
    WithJsonSchema({"type": "string", "pattern": id_pattern("hld")}),
]
EventIdText = Annotated[
    str,
    _must_be(is_event_id, _no_cursor),
    WithJsonSchema({"type": "string", "pattern": "^evt_[0-9a-f]{32}$"}),
]
TopUpIdText = Annotated[
    str,
    _id("top"),
    WithJsonSchema({"type": "string", "pattern": id_pattern("top")}),
]
WithdrawalIdText = Annotated[
    str,
    _id("wdr"),
    WithJsonSchema({"type": "string", "pattern": id_pattern("wdr")}),
]
LetterIdText = Annotated[
    str,
    _must_be(is_letter_id, _no_cursor),
    WithJsonSchema({"type": "string", "pattern": f"{id_pattern('acc').removesuffix('$')}:[0-9]{{20}}$"}),
]
CurrencyText = Annotated[str, AfterValidator(_currency), WithJsonSchema({"type": "string", "enum": sorted(EXPONENTS)})]
MinorUnits = Annotated[
    int,
    BeforeValidator(_minor_units),
    WithJsonSchema(
        {
            "oneOf": [
                {
                    "type": "string",
                    "pattern": f"^([1-9][0-9]{{0,{len(str(AMOUNT_MAX_MINOR)) - 2}}}|{AMOUNT_MAX_MINOR})$",
                },
                {"type": "integer", "minimum": 1, "maximum": AMOUNT_MAX_MINOR},
            ]
        }
    ),
]
KeyText = Annotated[
    str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": KEY_MAX, "pattern": "^[ -~]+$"})
]
Reference = Annotated[
    str,
    Field(description=f"What it is for, at most {REFERENCE_MAX} printable characters; the payee sees it."),
    WithJsonSchema({"type": "string", "maxLength": REFERENCE_MAX}),
]

Category = Annotated[str, WithJsonSchema({"type": "string", "maxLength": CATEGORY_MAX})]
Metadata = Annotated[
    dict[str, str],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": PAIRS_MAX,
            "propertyNames": {"minLength": 1, "maxLength": PAIR_NAME_MAX},
            "additionalProperties": {"type": "string", "maxLength": PAIR_VALUE_MAX},
        }
    ),
]


class Given(BaseModel):
    """What comes in."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )

    def sizes(self) -> dict[str, int]:
        """How long lists of the answer may be, by their names; `first` is for those that it does not name."""
        return {name: value for name in ("first", "entries") if (value := getattr(self, name, None)) is not None}

    def payments(self) -> int:
        """How many payments it asks for, if it asks for any."""
        return 1


class Ordered(Given):
    """In which order a list comes. Pages in both orders take the same `after`."""

    order_by: ListOrderName | None = Field(
        None, description="`OLDEST_FIRST` for the oldest item first; the newest comes first if it is left out."
    )

    @property
    def backward(self) -> bool:
        """Whether the oldest item comes first."""
        return self.order_by is ListOrder.OLDEST_FIRST

    def turned(self, items: Items[T]) -> Items[T]:
        """Items that were read newest first, in this order."""
        return items[::-1] if self.backward else items


class Told(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class GivenMoney(Given):
    """An exact amount of one currency."""

    minor_units: MinorUnits = Field(description="In the currency's minor unit: 1230 is 12.30 EUR.")
    currency: CurrencyText = Field(description="The currency; it must be the account's.")


def one_of(schema: dict[str, Any]) -> None:
    """Rewrite an object's schema: exactly one of its members. Generators of clients make a union of it."""
    kinds = [
        {
            "title": f"{schema['title']}{name[:1].upper()}{name[1:]}",
            "type": "object",
            "additionalProperties": False,
            "required": [name],
            "properties": {name: {key: value for key, value in about.items() if key != "default"}},
        }
        for name, about in schema["properties"].items()
    ]
    about = {key: schema[key] for key in ("title", "description")}
    schema.clear()
    schema.update(about, oneOf=kinds)


class Recipient(Given):
    """Whom to pay: exactly one of these."""

    model_config = ConfigDict(json_schema_extra=one_of)

    account_id: AccountIdText = Field("", description="An account by its id.")
    username: Text = Field("", description="A user, into the account that holds the currency.")

    def to(self) -> To:
        """The payee as the ledger takes it. Raises InvalidInput: both, or none."""
        given = self.model_fields_set
        account_id = AccountId(self.account_id) if "account_id" in given else None
        return To(account_id, self.username if "username" in given else None)


class Money(Told):
    """An exact amount of one currency. Calculate with `minorUnits`; show `decimal`."""

    minor_units: Annotated[str, Field(pattern=r"^-?[0-9]+$")] = Field(description="1230 is 12.30 EUR or 1230 JPY.")
    currency: str = Field(description="An ISO 4217 code.")
    decimal: str = Field(description="The same with exactly the currency's digits, such as `12.30`.")

    @classmethod
    def of(cls, amount_minor: int, currency: str) -> Money:
        """From minor units."""
        return cls(minor_units=str(amount_minor), currency=currency, decimal=format_decimal(amount_minor, currency))


def read(model: type[Given], values: Mapping[str, Any]) -> Given:
    """Check an input. Raises InvalidInput, which names all wrong members, such as `amount.currency`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)[:PROBLEMS_MAX]
        problems = [Problem(_path(fault["loc"]), _code(fault), _why(fault)) for fault in faults]
        raise InvalidInput.of(problems) from None


_SHAPES: Final[Mapping[str, Reason]] = {
    "missing": reasons.MISSING,
    "extra_forbidden": reasons.UNKNOWN,
    "string_type": reasons.TEXT,
    "int_type": reasons.NUMBER,
    "bool_type": reasons.YES_NO,
    "model_type": reasons.OBJECT,
    "dict_type": reasons.OBJECT,
    "list_type": reasons.LIST,
}
"""What Pydantic calls the faults of types."""

_BOUNDS: Final[Mapping[str, tuple[Reason, str, str]]] = {
    "greater_than_equal": (reasons.AT_LEAST, "least", "ge"),
    "less_than_equal": (reasons.AT_MOST, "most", "le"),
    "too_short": (reasons.AT_LEAST, "least", "min_length"),
    "too_long": (reasons.AT_MOST, "most", "max_length"),
    "string_too_long": (reasons.TOO_LONG, "most", "max_length"),
}
"""What Pydantic calls the faults of bounds; how our reason and Pydantic name the bound."""


def _told(fault: ErrorDetails) -> tuple[Any, ...]:
    """What a check of ours says: why, and the code if it is not that of any wrong input."""
    return getattr(fault.get("ctx", {}).get("error"), "args", ())


def _code(fault: ErrorDetails) -> str:
    """What is wrong."""
    told = _told(fault)
    return str(told[1]) if len(told) > 1 else InvalidInput.code


def _why(fault: ErrorDetails) -> Worded:
    """Why a value was refused."""
    told = _told(fault)
    if told and isinstance(told[0], Worded):
        return told[0]
    if fault["type"] in _BOUNDS:
        reason, ours, theirs = _BOUNDS[fault["type"]]
        return reason(**{ours: fault["ctx"][theirs]})
    return _SHAPES.get(fault["type"], reasons.SHAPE)()


def _path(place: tuple[int | str, ...]) -> tuple[str, ...]:
    """Where a fault is, without Pydantic's own words."""
    parts = (str(part)[:40] for part in place if not str(part).startswith(("function-", "constrained-")))
    return tuple(parts) or ("body",)
