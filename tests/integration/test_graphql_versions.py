"""State has a version: in whatever order answers arrive, who keeps the greatest version has what the server has."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from graphql import GraphQLObjectType, get_named_type, is_leaf_type, is_required_argument

from tests.integration._graphql import ask
from tests.integration._server import new_key
from tests.integration.test_viewer_events import Street, street_in
from wallet_gql.domain.ids import AccountId, HoldId, TransferId, UserId, make_hold_id, make_withdrawal_id, slot_of
from wallet_gql.domain.users import user_key
from wallet_gql.domain.withdrawals import Withdrawal, WithdrawalState
from wallet_gql.records import change
from wallet_gql.transports.graphql.cost import WORK
from wallet_gql.transports.graphql.schema import schema
from wallet_gql.verbs.ledger import To

STEPS: Final = 20
ORDERS: Final = 20

_VERSIONED: Final = schema._schema.get_implementations(schema._schema.type_map["Versioned"]).objects  # type: ignore[arg-type]  # it is an interface
KINDS: Final[dict[str, GraphQLObjectType]] = {kind.name: kind for kind in _VERSIONED}


def shown(kind: GraphQLObjectType) -> str:
    """All fields of a type that are its own: values, and amounts of money."""
    found = []
    for name, one in kind.fields.items():
        if not any(is_required_argument(argument) for argument in one.args.values()):
            inner = get_named_type(one.type)
            if is_leaf_type(inner):
                found.append(name)
            elif inner.name == "Money":
                found.append(f"{name} {{ minorUnits currency }}")
    return " ".join(found)


QUERIES: Final = {
    name: f"query($id: ID!) {{ node(id: $id) {{ ... on {name} {{ {shown(kind)} }} }} }}" for name, kind in KINDS.items()
}
PAY: Final = f"""mutation($input: TransferInput!) {{ transfer(input: $input) {{
  ... on TransferSuccess {{ fromAccount {{ {shown(KINDS["Account"])} }} }} }} }}"""


@dataclass
class Watched:
    """One object, and every answer about it, in the order in which they were made."""

    street: Street
    dice: random.Random
    id: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)

    async def look(self, kind: str) -> None:
        """Ask the server."""
        found = await ask(self.street.wallet, self.street.viewer.token, QUERIES[kind], {"id": self.id})
        assert found is not None
        self.answers.append(found)


Step = Callable[[Watched], Awaitable[None]]


async def account_step(watched: Watched) -> None:
    """Anything; a payment that the viewer makes answers with the account, too."""
    street = watched.street
    watched.id = street.viewer.account_id
    await street.step(watched.dice)
    paid = await ask(street.wallet, street.viewer.token, PAY, {"input": street.viewer.pay(street.other.username, 1)})
    if paid and paid["fromAccount"]:
        watched.answers.append(paid["fromAccount"])


async def hold_step(watched: Watched) -> None:
    """Placed, perhaps captured or voided, perhaps over in time, perhaps swept."""
    street, dice = watched.street, watched.dice
    if not watched.id:
        await street._hold(dice, street.other, street.viewer)
        held = (await street.truth()).open_holds
        (watched.id,) = held
    elif dice.random() < 0.3:
        await street.step(random.Random(dice.random()))
    else:
        street.clock[0] += timedelta(seconds=dice.randint(1, 30))
    if dice.random() < 0.2:
        await street.wallet.ledger.expire_due_holds()


async def transfer_step(watched: Watched) -> None:
    """Received, and sent back piece by piece."""
    ledger, viewer = watched.street.wallet.ledger, watched.street.viewer
    if not watched.id:
        source, to = AccountId(watched.street.other.account_id), To(username=viewer.username)
        payer = UserId(watched.street.other.id)
        paid = await ledger.transfer(payer, new_key(), source=source, to=to, amount_minor=500, currency="EUR")
        watched.id = paid.result.id
    else:
        sent_back, minor = TransferId(watched.id), watched.dice.randint(1, 30)
        await ledger.reverse_transfer(UserId(viewer.id), new_key(), sent_back, amount_minor=minor)


async def top_up_step(watched: Watched) -> None:
    """In any state."""
    await watched.street._top(watched.dice, watched.street.viewer, watched.street.other)
    assert watched.street.top_up is not None
    watched.id = watched.street.top_up.id


async def withdrawal_step(watched: Watched) -> None:
    """In any state, or only looked at."""
    viewer, at = watched.street.viewer, watched.street.clock[0]
    account_id, at_ms = AccountId(viewer.account_id), int(at.timestamp() * 1000)
    watched.id = watched.id or make_withdrawal_id(slot_of(account_id), at_ms, 1)
    hold_id: HoldId = make_hold_id(slot_of(account_id), at_ms, 1)
    state = watched.dice.choice(list(WithdrawalState))
    name: Any = watched.id
    made = Withdrawal(name, UserId(viewer.id), account_id, hold_id, 100, "EUR", "acct_1", at, state)
    await change(
        watched.street.wallet.store,
        made.key,
        lambda before: (
            replace(made, created_at=Withdrawal.from_record(before).created_at).to_record()
            if before
            else made.to_record()
        ),
    )


async def user_step(watched: Watched) -> None:
    """Another name, or the same."""
    street = watched.street
    watched.id = street.viewer.id
    store, key = street.wallet.store, user_key(UserId(street.viewer.id))
    name = watched.dice.choice(["ann", "bob", street.viewer.username])
    await change(store, key, lambda before: before and replace(before, body={**before.body, "username": name}))


STEPPED: Final[dict[str, Step]] = {
    "Account": account_step,
    "Hold": hold_step,
    "Transfer": transfer_step,
    "TopUp": top_up_step,
    "Withdrawal": withdrawal_step,
    "User": user_step,
}


def keep(known: dict[str, Any] | None, answer: dict[str, Any]) -> dict[str, Any]:
    """What a client does with an answer."""
    return answer if known is None or int(answer["version"]) >= int(known["version"]) else known


def test_all_types_have_their_changes_here() -> None:
    """A type that claims to have a version is tried below, and all objects that change claim it."""
    assert set(STEPPED) == set(KINDS)


@pytest.mark.parametrize("kind", sorted(STEPPED))
async def test_the_greatest_version_is_the_newest(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions never go back, what differs has another one, and so the order of arrival makes no difference."""
    async with street_in(tmp_path, monkeypatch) as street:
        watched = Watched(street, random.Random(kind))
        for _ in range(STEPS):
            await STEPPED[kind](watched)
            await watched.look(kind)
    answers = watched.answers
    for before, after in pairwise(answers):
        assert int(after["version"]) >= int(before["version"])
        assert before == after or int(after["version"]) > int(before["version"]), (before, after)
    assert len({json.dumps(one) for one in answers}) > 1, "nothing has changed"
    for _ in range(ORDERS):
        known = None
        for answer in watched.dice.sample(answers, len(answers)):
            known = keep(known, answer)
        assert known == answers[-1]


async def test_the_fields_of_one_answer_are_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`version` and `reversible` of a transfer are read together: nothing can come between them."""
    async with street_in(tmp_path, monkeypatch) as street:
        watched = Watched(street, random.Random(1))
        await transfer_step(watched)
        asked: list[object] = []
        execute = street.wallet.store.execute

        async def counted(*arguments: Any, **options: Any) -> Any:
            asked.append(arguments)
            return await execute(*arguments, **options)

        monkeypatch.setattr(street.wallet.ledger.store, "execute", counted)
        await watched.look("Transfer")
        assert len(asked) == 1


def test_a_version_costs_what_it_reads() -> None:
    """Also where it is asked for by the interface."""
    assert WORK["Versioned.version"] == max(WORK.get(f"{kind}.version", 0) for kind in KINDS) > 0
