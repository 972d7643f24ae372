"""Why a value of an input cannot be taken: all reasons, each with its code for programs and its words for people.

The words say what the value must look like. Every language of the wallet has all of them (`transports/catalogue`).
"""

from __future__ import annotations

from typing import Final

from ..words import Reason

# Of any value

RANGE: Final = Reason("RANGE", "{least} to {most}")
AT_MOST: Final = Reason("AT_MOST", "at most {most}")
AT_LEAST: Final = Reason("AT_LEAST", "{least} or more")
LENGTH: Final = Reason("LENGTH", "{least} to {most} characters")
VISIBLE: Final = Reason("VISIBLE", "at least one character that can be seen")
TOO_LONG: Final = Reason("TOO_LONG", "at most {most} characters")
CHARACTER: Final = Reason("CHARACTER", "character {place} is {named}, which is not allowed; remove it")
ID: Final = Reason("ID", "{text} is no {kind} id such as {prefix}_0193…")

MISSING: Final = Reason("MISSING", "it must be there")
UNKNOWN: Final = Reason("UNKNOWN", "there is nothing of this name here; leave it out")
TEXT: Final = Reason("TEXT", "it must be text")
NUMBER: Final = Reason("NUMBER", "it must be a whole number")
YES_NO: Final = Reason("YES_NO", "it must be true or false")
OBJECT: Final = Reason("OBJECT", "it must be an object")
LIST: Final = Reason("LIST", "it must be a list")
CHOICE: Final = Reason("CHOICE", "one of {choices}")
MOMENT: Final = Reason("MOMENT", "a moment with its offset from UTC, such as 2026-11-22T14:20:00Z")
SHAPE: Final = Reason("SHAPE", "it has another shape: see the description of the API")

# Of people

USERNAME: Final = Reason("USERNAME", "3 to 32 letters, digits, dots, dashes or underscores; a letter or digit first")
EMAIL: Final = Reason("EMAIL", "an e-mail address such as ann@example.org, at most 254 characters")
RESERVED_NAME: Final = Reason("RESERVED_NAME", "another name: this one would be taken for the wallet's own")
PASSWORD_CHARACTERS: Final = Reason("PASSWORD_CHARACTERS", "no control characters")
PASSWORD_IS_NAME: Final = Reason("PASSWORD_IS_NAME", "something other than your own name or address")
PASSWORD_SAME: Final = Reason("PASSWORD_SAME", "something other than the password you have")
PASSWORD_WEAK: Final = Reason(
    "PASSWORD_WEAK", "one that is harder to guess, such as several words that nobody would expect"
)

# Of money

CURRENCY: Final = Reason("CURRENCY", "{text} is not an active ISO 4217 currency code such as EUR")
CURRENCY_WITHOUT_LIMITS: Final = Reason("CURRENCY_WITHOUT_LIMITS", "{currency} has no spending limits here")
CURRENCY_OF_PROVIDER: Final = Reason("CURRENCY_OF_PROVIDER", "{currency} cannot be paid in or out")
AMOUNT_WHOLE: Final = Reason("AMOUNT_WHOLE", 'it must be a whole number of minor units, such as 1230 or "1230"')
AMOUNT_POSITIVE: Final = Reason("AMOUNT_POSITIVE", "it must be greater than zero")
AMOUNT_MAX: Final = Reason("AMOUNT_MAX", "it must not be greater than {most} minor units")
AMOUNT_DIGITS: Final = Reason("AMOUNT_DIGITS", "write plain digits with a point, such as 12.30")
AMOUNT_EXPONENT: Final = Reason("AMOUNT_EXPONENT", "{currency} has {exponent} digits after the point")
PROVIDER_MIN: Final = Reason("PROVIDER_MIN", "a {direction} in {currency} is at least {bound}")
PROVIDER_MAX: Final = Reason("PROVIDER_MAX", "a {direction} in {currency} is at most {bound}")
PROVIDER_STEP: Final = Reason("PROVIDER_STEP", "a {direction} in {currency} is a multiple of {bound}")

# Of commands

ONE_PAYEE: Final = Reason("ONE_PAYEE", "exactly one of accountId and username")
BATCH_SIZE: Final = Reason("BATCH_SIZE", "{least} to {most} transfers")
PAIRS: Final = Reason("PAIRS", "at most {most} pairs, each with a name of its own")
BATCH_KEYS: Final = Reason("BATCH_KEYS", "each transfer needs an idempotency key of its own")
KEY: Final = Reason("KEY", "1 to {most} printable ASCII characters, such as a UUID")
KEY_QUOTES: Final = Reason("KEY_QUOTES", "leave the double quotes out, or end with one and put nothing behind it")
KEY_SPACES: Final = Reason("KEY_SPACES", "leave out the double quote in front and the spaces at both ends; use a UUID")
KEY_ONCE: Final = Reason("KEY_ONCE", "send this header, once: a new key for each intent, the same one for its retries")
KEY_BARE: Final = Reason("KEY_BARE", 'put the key in double quotes, as in "8e03978e-40d5-43dd-bc93-6894a57f9324"')
NO_PARAMETERS: Final = Reason("NO_PARAMETERS", "this takes no parameters")
PARAMETERS: Final = Reason("PARAMETERS", "at most {most} parameters")
NO_BODY: Final = Reason("NO_BODY", "this takes none")
ONCE: Final = Reason("ONCE", "send it once")

ONE_RECIPIENT: Final = Reason("ONE_RECIPIENT", "exactly one of accountId, username and merchant")
CURSOR: Final = Reason("CURSOR", "take it from an answer of this list or stream")
SPAN_ORDER: Final = Reason("SPAN_ORDER", "since must not be later than until")
SPAN_ENTRIES: Final = Reason("SPAN_ENTRIES", "a span with {most} entries at most; this one has {count}")

# Of merchants

SPLITS_SUM: Final = Reason("SPLITS_SUM", "shares from 1 that sum to less than {whole} basis points")
SPLITS_PARTS: Final = Reason(
    "SPLITS_PARTS", "each part must be at least one minor unit, the merchant's more than the fee"
)
SPLITS_MERCHANT: Final = Reason("SPLITS_MERCHANT", "the merchant has what the splits leave, and is not one of them")
SPLITS_HOLD: Final = Reason("SPLITS_HOLD", "a payment by a hold cannot be split; leave one of the two out")
NOTES_HOLD: Final = Reason("NOTES_HOLD", "a hold has no notes; make them when the money has moved")
WEBHOOK_URL: Final = Reason("WEBHOOK_URL", "an https URL of a public server, such as https://shop.example/events")
WEBHOOK_ON: Final = Reason("WEBHOOK_ON", "a URL turns the webhook on")
WEBHOOKS_MISSING: Final = Reason(
    "WEBHOOKS_MISSING", "this wallet cannot send webhooks; ask the operator to install them"
)

REASONS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Reason))
"""All of them, in the order above."""
