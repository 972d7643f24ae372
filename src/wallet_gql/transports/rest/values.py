"""The JSON of REST. Input is checked strictly: no unknown member, no float, no conversion between types.

Members are camelCase. An amount is `{"minorUnits": "1230", "currency": "EUR"}`. Minor units are sent as text, because
JSON numbers above 2^53 lose digits in JavaScript; they are accepted as text of digits or as an integer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from ...domain.errors import InvalidAmount, InvalidInput, Problem
from ...domain.ids import AccountId, is_id
from ...domain.money import AMOUNT_MAX_MINOR, EXPONENTS, format_decimal
from ...domain.security_events import is_event_id
from ...verbs.attempts import REFERENCE_MAX
from ...verbs.ledger import To
from ..catalogue.errors import PROBLEMS_MAX

_DIGITS: Final = re.compile(r"-?(0|[1-9][0-9]{0,39})", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII | re.IGNORECASE,
)


def _id_pattern(prefix: str) -> str:
    return f"^{prefix}_[0-9a-f]{{12}}7[0-9a-f]{{3}}[89ab][0-9a-f]{{15}}$"


def _minor_units(value: object) -> int:
    """A whole number; the ledger checks its range. Raises InvalidAmount, which passes through Pydantic."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if type(value) is int:
        return value
    if isinstance(value, str | float | bool):
        raise InvalidAmount(str(value)[:40], 'it must be a whole number of minor units, such as 1230 or "1230"')
    raise ValueError('must be a whole number of minor units, such as 1230 or "1230"')


def _count(value: object) -> int:
    if not isinstance(value, str) or _COUNT.fullmatch(value) is None:
        raise ValueError("must be a whole number, written with digits")
    return int(value)


def _moment(value: object) -> datetime:
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        raise ValueError("must be a moment with its offset from UTC, such as 2026-11-22T14:20:00Z")
    return datetime.fromisoformat(value)


def _account_id(value: str) -> str:
    if not is_id("acc", value):
        raise ValueError("must be an account id such as acc_0193…")
    return value


def _event_id(value: str) -> str:
    if not is_event_id(value):
        raise ValueError("must be the id of an event, such as evt_0193…")
    return value


Text = Annotated[str, WithJsonSchema({"type": "string"})]
Count = Annotated[int, BeforeValidator(_count)]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
AccountIdText = Annotated[
    str,
    AfterValidator(_account_id),
    WithJsonSchema({"type": "string", "pattern": _id_pattern("acc")}),
]
EventIdText = Annotated[
    str,
    AfterValidator(_event_id),
    WithJsonSchema({"type": "string", "pattern": "^evt_[0-9a-f]{32}$"}),
]
CurrencyText = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(EXPONENTS)})]
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
Reference = Annotated[
    str,
    Field(description=f"What it is for, at most {REFERENCE_MAX} printable characters; the payee sees it."),
    WithJsonSchema({"type": "string", "maxLength": REFERENCE_MAX}),
]


class Given(BaseModel):
    """What comes in."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )


class Told(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class GivenMoney(Given):
    """An exact amount of one currency."""

    minor_units: MinorUnits = Field(description="In the currency's minor unit: 1230 is 12.30 EUR.")
    currency: CurrencyText = Field(description="The currency; it must be the account's.")


class Recipient(Given):
    """Whom to pay: exactly one of these."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["accountId"]}, {"required": ["username"]}]})

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
        faults = error.errors(include_url=False, include_context=False, include_input=False)[:PROBLEMS_MAX]
        problems = [
            Problem(_path(fault["loc"]), InvalidInput.code, fault["msg"].removeprefix("Value error, "))
            for fault in faults
        ]
        raise InvalidInput.of(problems) from None


def _path(place: tuple[int | str, ...]) -> tuple[str, ...]:
    """Where a fault is, without Pydantic's own words."""
    parts = (str(part)[:40] for part in place if not str(part).startswith(("function-", "constrained-")))
    return tuple(parts) or ("body",)
