"""Backends that each break one promise, which the suite must detect: `broken-NAME://`."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import replace

from tests.integration.outside_backend import NODE, NODES, ToyStore
from wallet_gql.backends.kit import Command, Wanted
from wallet_gql.domain.changes import Outcome, State, Writes, decide_all


class _Broken(ToyStore):
    """The toy's commit, with a place for the flaw."""

    async def _commit(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        tables = self.nodes[NODE]
        state = State(NODE, NODES.peer_of(NODE))
        tables.load(state, Wanted.of(command.scope for command in batch))
        await self._between()
        outcomes = decide_all(state, [(command.scope, command.decide) for command in batch])
        tables.write(self._bent(state.writes))
        return outcomes

    async def _between(self) -> None:
        """Between load and write."""

    def _bent(self, writes: Writes) -> Writes:
        """What is really written."""
        return writes


class HalfStore(_Broken):
    """Applies half of the changes: the last entry of a batch is forgotten (G1)."""

    def _bent(self, writes: Writes) -> Writes:
        writes.entries = writes.entries[:-1] if len(writes.entries) > 1 else writes.entries
        return writes


class OpenStore(_Broken):
    """Isolates nothing: two batches may load the same rows (G2)."""

    def _lane(self, scope: object) -> Hashable:
        return id(scope)

    async def _between(self) -> None:
        await asyncio.sleep(0)


class ForgetfulStore(_Broken):
    """Keeps no receipts (G4)."""

    def _bent(self, writes: Writes) -> Writes:
        writes.receipts = []
        return writes


class LavishStore(_Broken):
    """Lets everybody overdraw: the balance that a decision sees is a thousand too high."""

    async def _commit(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        tables = self.nodes[NODE]
        state = State(NODE, NODES.peer_of(NODE))
        tables.load(state, Wanted.of(command.scope for command in batch))
        rich = {i: replace(a, posted_minor=a.posted_minor + 1_000) for i, a in state.accounts.items()}
        state.accounts.update(rich)
        outcomes = decide_all(state, [(command.scope, command.decide) for command in batch])
        tables.write(state.writes)
        return outcomes
