"""A batch of commands on one version of a partition: load, decide in order, and make rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...domain.changes import Credit, Decide, Done, Failed, Outcome, Scope, State, decide_all
from ...domain.errors import InvariantViolated, WalletError
from ...domain.ids import AccountId, TransferId, is_system, slot_of
from ...domain.model import AccountFacts
from ...failpoints import before_decision
from ..kit.nodes import NodeMap
from ..kit.wanted import Wanted, answered
from .batch import draft_of
from .client import Client
from .credits import Intent, Receive
from .load import Found, load
from .partition import TAIL_BYTES_MAX, Draft, Partition, Register
from .tables import transfer_key

Pair = tuple[Scope, Decide[Any]]
"""A command."""


@dataclass(slots=True)
class Decided:
    """The result of a batch: one outcome per command with its intents, and the accounts that the batch changes."""

    outcomes: list[tuple[Outcome, list[Intent]]]
    accounts: list[AccountId]


class _Drafting:
    """One batch of commands on one version of a partition."""

    def __init__(self, client: Client, nodes: NodeMap, partition: Partition, base: Register) -> None:
        self._client = client
        self._map = nodes
        self._name = partition.name
        self._base = base
        self._found = Found()
        self._wanted = Wanted()

    def _transfer_key(self, transfer_id: TransferId) -> str:
        return transfer_key(self._name, transfer_id)

    async def load(self, pairs: Sequence[Pair]) -> None:
        """Read what the batch names. Raises Failure."""
        self._wanted = Wanted.of(scope for scope, _ in pairs)
        known = self._base.accounts
        self._found = await load(self._client, self._wanted, self._transfer_key, known)
        known.update((name, account) for name, account in self._found.accounts.items() if self._is_here(account.id))

    def _is_here(self, account_id: AccountId) -> bool:
        return self._map.home(slot_of(account_id)) == self._name

    def decide(self, pairs: Sequence[Pair]) -> Draft:
        """Run the commands in order on what was loaded."""
        state = State(self._name, self._map.peer_of(self._name))
        remote = {name for name in self._wanted.credits if not self._is_here(name)}
        self._found.fill(state, self._wanted, remote=remote)
        for account_id in remote & self._found.accounts.keys():
            account = self._found.accounts[account_id]
            state.facts[account_id] = AccountFacts(account.id, account.owner, account.currency, account.status)
        version = self._base.version + 1
        reversed_minor = dict(state.reversed_minor)
        outcomes = [self._one(state, pair, version) for pair in pairs]
        sent = {intent.credit.transfer.id: intent for _, intents in outcomes for intent in intents}
        for (scope, _), (_, intents) in zip(pairs, outcomes, strict=True):
            again = answered(scope, state) & sent.keys() - {intent.credit.transfer.id for intent in intents}
            intents += [sent[name] for name in again]  # a replay within this batch
        return draft_of(state, Decided(outcomes, list(state.writes.accounts)), version, reversed_minor)

    async def checked(self, pairs: Sequence[Pair], made: Draft) -> Draft:
        """The draft, after checking that none of its new rows exists; decided again without credits that were applied.

        Raises:
            InvariantViolated: an id is used a second time. Failure.
        """
        there = await known_keys(self._client, made.fresh)
        if there:
            names = {d.credit.transfer.id for _, d in pairs if isinstance(d, Receive)}
            names = {name for name in names if self._transfer_key(name) in there}
            if names:
                credited = await load(self._client, Wanted(transfers=names), self._transfer_key)
                self._found.transfers.update(credited.transfers)
                made = self.decide(pairs)
                there = await known_keys(self._client, made.fresh)
        if there:
            raise InvariantViolated(f"{min(there)} is written a second time")
        return made

    def _one(self, state: State, pair: Pair, version: int) -> tuple[Outcome, list[Intent]]:
        _, decide = pair
        if isinstance(decide, Receive):
            try:
                decide.receive(state)
            except WalletError as error:
                return Failed(error), []
            return Done(None), []
        before = len(state.writes.credits)
        (outcome,) = decide_all(state, [pair])
        return outcome, [Intent(credit, version) for credit in state.writes.credits[before:]]

    async def add_replayed(self, pairs: Sequence[Pair], decided: Decided) -> None:
        """Add the missing credits of transfers whose answers are replayed, so that a replay shows if they arrived."""
        named: dict[TransferId, list[int]] = {}
        receipts = {(r.slot, r.actor, r.key): r for r in self._found.receipts}
        for place, (scope, _) in enumerate(pairs):
            for actor, key in scope.receipts:
                receipt = receipts.get((scope.home, actor, key))
                if receipt is not None and receipt.transfer_id is not None:
                    named.setdefault(receipt.transfer_id, []).append(place)
        if not named or len(self._map.names) == 1:
            return
        for transfer_id, intent in (await self._unarrived(named)).items():
            for place in named[transfer_id]:
                decided.outcomes[place][1].append(intent)

    async def _unarrived(self, named: dict[TransferId, list[int]]) -> dict[TransferId, Intent]:
        headers = Wanted(transfers=set(named))
        transfers = (await load(self._client, headers, self._transfer_key)).transfers
        peers = {
            transfer_key(self._map.home(slot_of(t.credit_account_id)), t.id): t
            for t, _ in transfers.values()
            if not is_system(t.credit_account_id) and not self._is_here(t.credit_account_id)
        }
        there = {key for key, row, _ in await self._client.ask_keys("get_transfer", peers) if row is not None}
        return {
            t.id: Intent(Credit(t.credit_account_id, t.net_minor, t, self._name), 0)
            for key, t in peers.items()
            if key not in there
        }


def drafting(
    client: Client, nodes: NodeMap, partition: Partition, pairs: Sequence[Pair]
) -> Callable[[Register], Awaitable[Draft]]:
    """A function that drafts what a batch of commands writes; the draft's result is a `Decided`.

    If the batch is too large for one commit, only its first part is drafted.
    """

    async def draft(base: Register) -> Draft:
        batch = _Drafting(client, nodes, partition, base)
        await batch.load(pairs)
        before_decision("cassandra.loaded")
        taken = len(pairs)
        made = batch.decide(pairs)
        while taken > 1 and len(made.packed()) > TAIL_BYTES_MAX:
            taken = (taken + 1) // 2
            made = batch.decide(pairs[:taken])
        made = await batch.checked(pairs[:taken], made)
        await batch.add_replayed(pairs[:taken], made.result)
        if made.writes:
            before_decision("cassandra.decided")
        return made

    return draft


async def known_keys(client: Client, fresh: Mapping[str, Sequence[str]]) -> set[str]:
    """The keys of new rows that exist already or are used twice. In other databases a unique key refuses them."""
    parts = [(table, keys) for table, keys in fresh.items() if keys]
    found = await asyncio.gather(*(client.ask_keys(f"get_{table}", keys) for table, keys in parts))
    there = {row[0] for rows in found for row in rows if row[1] is not None}
    twice = [key for _, keys in parts for key, times in Counter(keys).items() if times > 1]
    return there.union(twice)
