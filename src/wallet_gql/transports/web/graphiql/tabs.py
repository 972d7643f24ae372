"""The example tabs that GraphiQL opens with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphql import GraphQLSyntaxError, OperationDefinitionNode, parse


@dataclass(frozen=True, slots=True)
class Tab:
    """One tab. GraphiQL labels a tab with the name of its operation, so `title` must be that name.

    `headers` are sent with the tab's requests. If any tab has some, GraphiQL stores headers in the browser.

    Raises:
        ValueError: the title is not the operation's name, or the text is not GraphQL with exactly one operation.
    """

    title: str
    query: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            nodes = [node for node in parse(self.query).definitions if isinstance(node, OperationDefinitionNode)]
        except GraphQLSyntaxError as error:
            raise ValueError(f"the tab {self.title!r} holds no GraphQL: {error.message}") from error
        names = [node.name.value if node.name else "" for node in nodes]
        if names != [self.title]:
            raise ValueError(f"the tab {self.title!r} must hold one operation of that name, not {names}")


def demo_tabs(
    *,
    username: str,
    password: str,
    account_id: str,
    payee: str,
    hold_id: str,
    after: str | None,
    currency: str = "EUR",
    page_size: int = 5,
    key: str = "graphiql",
) -> list[Tab]:
    """Examples that work on a wallet with these users and accounts.

    Args:
        username: Who logs in and pays.
        password: Theirs.
        account_id: Their account in `currency`; it holds at least 8 units and less than a million.
        payee: The username of somebody else with an account in `currency`.
        hold_id: An open hold that somebody placed for them.
        after: The cursor of an entry in the account's history with older entries behind it, best the last of the
            first `page_size`.
        currency: One with two digits.
        page_size: How many entries of history a page shows.
        key: Begins the idempotency keys; the payer has used none that begin so.
    """
    payment = {
        "idempotencyKey": f"{key}-1",
        "fromAccountId": account_id,
        "to": {"username": payee},
        "amount": {"minorUnits": "500", "currency": currency},
        "reference": "from GraphiQL",
    }
    too_much = {"idempotencyKey": f"{key}-2", "amount": {"minorUnits": "100000000", "currency": currency}}
    to_hold = {"idempotencyKey": f"{key}-3", "amount": {"minorUnits": "300", "currency": currency}}
    capture = {"idempotencyKey": f"{key}-4", "holdId": hold_id}
    page = {"accountId": account_id, "first": page_size}
    return [
        Tab("LogIn", _LOG_IN, {"input": {"login": username, "password": password}}),
        Tab("WhoAmI", _WHO_AM_I),
        Tab("Balances", _BALANCES),
        Tab("HistoryPage1", _HISTORY_1, page),
        Tab("HistoryPage2", _HISTORY_2, {**page, "after": after}),
        Tab("Transfer", _TRANSFER, {"input": payment}),
        Tab("SameKeyAgain", _SAME_KEY_AGAIN, {"input": payment}),
        Tab("InsufficientFunds", _INSUFFICIENT_FUNDS, {"input": {**payment, **too_much}}),
        Tab("PlaceHold", _PLACE_HOLD, {"input": {**payment, **to_hold}}),
        Tab("CaptureHold", _CAPTURE_HOLD, {"input": capture}),
        Tab("AccountEvents", _ACCOUNT_EVENTS, {"accountId": account_id}),
    ]


def start_tabs() -> list[Tab]:
    """How to begin in a wallet whose users are not known; the visitor fills in names and passwords."""
    ann = {"username": "ann", "email": "ann@example.org", "password": ""}
    return [
        Tab("SignUp", _SIGN_UP, {"input": ann}),
        Tab("LogIn", _LOG_IN, {"input": {"login": "ann", "password": ""}}),
        Tab("OpenAccount", _OPEN_ACCOUNT, {"input": {"currency": "EUR"}}),
        Tab("WhoAmI", _WHO_AM_I),
        Tab("Balances", _BALANCES),
    ]


_SIGN_UP: Final = """\
# Begin here: choose a password under Variables, then
# press the triangle, or Ctrl-Enter. A password that is
# easy to guess is an answer with problems.
#
# How to go on: the tabs from left to right. Money comes
# from an operator: wallet-gql deposit ann 100.00 EUR
# `wallet-gql demo` is a wallet with users, money and
# many more tabs. The wallet for people is at /
# Docs: docs/first-transfer.md, docs/frontends.md;
# the code of a page: examples/web
mutation SignUp($input: SignUpInput!) {
  signUp(input: $input) {
    __typename
    ... on SignUpSuccess { user { id username } }
    ... on InvalidInput { problems { path code message } }
    ... on WalletError { code message retryable }
  }
}
"""

_OPEN_ACCOUNT: Final = """\
# One account in each currency, to be paid and to pay.
mutation OpenAccount($input: OpenAccountInput!) {
  openAccount(input: $input) {
    __typename
    ... on OpenAccountSuccess { account { id currency } }
    ... on WalletError { code message retryable }
  }
}
"""

_LOG_IN: Final = """\
# Start here: press the triangle, or Ctrl-Enter.
# The answer sets a cookie that scripts cannot read;
# the other tabs are sent with it.
# Some browsers refuse it without TLS. Then add
# "session": "BEARER" to the input, and put the token
# under Headers of the other tabs, like this:
# {"Authorization": "Bearer …"}
mutation LogIn($input: LogInInput!) {
  logIn(input: $input) {
    __typename
    ... on LogInSuccess {
      user { username }
      expiresAt
      token
    }
    ... on WalletError { code message retryable }
  }
}
"""

_WHO_AM_I: Final = """\
# Who is logged in. Without a session viewer is null,
# and the code of the error is UNAUTHENTICATED.
query WhoAmI {
  viewer { id username email createdAt }
}
"""

_BALANCES: Final = """\
# One account per currency. Calculate with minorUnits,
# which never loses a digit; show decimal.
query Balances {
  viewer {
    accounts {
      id
      state
      available { ...Amount }
      held { ...Amount }
      posted { ...Amount }
    }
  }
}

fragment Amount on Money { minorUnits decimal currency }
"""

_ENTRIES: Final = """\
      pageInfo { hasNextPage endCursor }
      edges {
        node {
          sequence
          createdAt
          amount { decimal currency }
          balanceAfter { decimal }
          transfer { kind reference counterparty { name } }
        }
      }
"""

_HISTORY_1: Final = f"""\
# The newest entries first; each with its place in the
# account's order and the balance after it.
# pageInfo.endCursor leads to the next page: next tab.
query HistoryPage1($accountId: ID!, $first: Int!) {{
  account(id: $accountId) {{
    history(first: $first) {{
{_ENTRIES}    }}
  }}
}}
"""

_HISTORY_2: Final = f"""\
# What is older than the entry that `after` stands for.
# Entries that arrive meanwhile do not shift the page.
query HistoryPage2(
  $accountId: ID!, $first: Int!, $after: String
) {{
  account(id: $accountId) {{
    history(first: $first, after: $after) {{
{_ENTRIES}    }}
  }}
}}
"""

_PAYMENT: Final = """\
  transfer(input: $input) {
    __typename
    ... on TransferSuccess {
      replayed
      transfer {
        id
        createdAt
        amount { decimal currency }
        counterparty { name }
      }
      fromAccount { available { decimal currency } }
    }
    ... on InsufficientFunds {
      available { decimal currency }
      required { decimal currency }
    }
    ... on WalletError { code message retryable }
  }
"""

_TRANSFER: Final = f"""\
# Pay somebody. The idempotency key stands for this one
# intent to pay, however often it is sent.
# To pay a second time, change the key.
mutation Transfer($input: TransferInput!) {{
{_PAYMENT}}}
"""

_SAME_KEY_AGAIN: Final = f"""\
# When an answer got lost, send the same again with the
# same key: here what the tab before has sent. It gets
# the same transfer, replayed: true, and no money moves.
mutation SameKeyAgain($input: TransferInput!) {{
{_PAYMENT}}}
"""

_INSUFFICIENT_FUNDS: Final = f"""\
# More than there is. A refusal is an answer with a type
# and a code of its own, not a GraphQL error.
mutation InsufficientFunds($input: TransferInput!) {{
{_PAYMENT}}}
"""

_PLACE_HOLD: Final = """\
# Reserve money for somebody. It stays on your account,
# where nobody else can have it, until they capture it,
# they void it, or its time is over: a week if you do
# not say expiresInSeconds.
mutation PlaceHold($input: PlaceHoldInput!) {
  placeHold(input: $input) {
    __typename
    ... on PlaceHoldSuccess {
      replayed
      hold {
        id
        state
        amount { decimal currency }
        counterparty { name }
        expiresAt
      }
      fromAccount {
        posted { decimal }
        held { decimal }
        available { decimal currency }
      }
    }
    ... on InsufficientFunds {
      available { decimal currency }
      required { decimal currency }
    }
    ... on WalletError { code message retryable }
  }
}
"""

_CAPTURE_HOLD: Final = """\
# The other side: take what somebody holds for you. One
# capture closes the hold. Add "minorUnits" to take only
# a part; the rest is released.
mutation CaptureHold($input: CaptureHoldInput!) {
  captureHold(input: $input) {
    __typename
    ... on CaptureHoldSuccess {
      replayed
      transfer {
        id
        kind
        amount { decimal currency }
        counterparty { name }
      }
      toAccount { available { decimal currency } }
    }
    ... on HoldNotOpen { state }
    ... on WalletError { code message retryable }
  }
}
"""

_ACCOUNT_EVENTS: Final = """\
# What happens on the account, as it happens; first the
# account as it is. Pay from another window and look.
# With "afterSequence" it begins behind that entry.
subscription AccountEvents(
  $accountId: ID!, $afterSequence: BigInt
) {
  accountEvents(
    accountId: $accountId, afterSequence: $afterSequence
  ) {
    sequence
    entry {
      amount { decimal currency }
      transfer { kind reference counterparty { name } }
    }
    account {
      state
      available { decimal currency }
    }
  }
}
"""
