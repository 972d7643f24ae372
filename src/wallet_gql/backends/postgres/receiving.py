"""Pending credits of sharded Postgres nodes become entries: a receiver in every process, and inside the gate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ...background import log_once_a_minute
from ...domain.changes import State
from ...domain.errors import WalletError
from ...domain.ids import AccountId, slot_of
from ..kit.group_commit import LanePolicy
from ..kit.wanted import Wanted
from . import text as sql
from .commit import Branch, decide
from .json_text import fill, given
from .node import Connection, PgNode
from .placement import OtherEpoch, Placement
from .reading import PgReads

log = logging.getLogger("wallet_gql.postgres")

RECEIVE_SECONDS: Final = 2.0
"""How long one node's pending credits are received in one go."""

RECEIVE_ACCOUNTS_MAX: Final = 64
"""How many accounts one commit of the receiver locks."""

_LOCKED_SECONDS: Final = 0.05
"""The pause before the receiver tries again accounts that were locked."""

_FULL_SECONDS: Final = 60.0
"""How long the receiver leaves an account alone whose next credit would take its balance past 64 bits."""


class Receiving(PgReads):
    """A store that receives what is pending. What it locks accounts with is up to `_receive_some`."""

    def __init__(self, url: str, policy: LanePolicy) -> None:
        """See `PgReads`."""
        super().__init__(url, policy)
        self._received: dict[str, str] = {}
        """The account up to which a sweep has received, by node, if it was cut off."""
        self._full_until: dict[AccountId, float] = {}
        """Until when the receiver leaves an account alone, on the loop's clock."""

    async def _load(
        self, homes: Placement, connection: Connection, state: State, wanted: Wanted, mode: str, **more: Any
    ) -> dict[str, Any]:
        """Load `wanted` into the state, with the locks of the mode. Returns the node's whole answer."""
        asked = self._wish(wanted, mode, homes.epochs[connection.node], **more)
        text = await connection.value("SELECT wallet_load($1, $2)", asked, mode)
        found: dict[str, Any] = orjson.loads(text)
        fill(state, wanted, found)
        return found

    async def _receive(self, patience_seconds: float) -> None:
        """Receive what is pending on the nodes that answer; wait at most so long for accounts that others have locked.

        Raises nothing: what fails is received later.
        """
        async with asyncio.TaskGroup() as all_nodes:  # cancelled, it waits for all
            for name in self.placement.names:
                all_nodes.create_task(self._receive_on(self._nodes[name], patience_seconds))

    async def _receive_on(self, node: PgNode, patience_seconds: float) -> None:
        now, homes = asyncio.get_running_loop().time(), self.placement
        try:
            async with node.connection(now + RECEIVE_SECONDS) as connection:
                await self._receive_all(connection, now + patience_seconds)
        except OtherEpoch:
            await self._learning.learn(homes)
        except WalletError as error:
            log.info("pending credits on %s are received later: %s", node.name, error)

    async def _receive_all(self, connection: Connection, until: float) -> bool:
        """Receive all pending credits of a node in bounded commits. Returns whether some may be left.

        Raises Unavailable, Contended.

        Accounts that others have locked are left out, and tried again `until` a moment on the loop's clock. No account
        is waited for: whoever waits for one while it holds others stops them too.
        """
        while await self._receive_once(connection):
            await asyncio.sleep(_LOCKED_SECONDS)
            if asyncio.get_running_loop().time() >= until:
                return True
        return False

    async def _receive_once(self, connection: Connection) -> bool:
        """Receive pending credits of some accounts at a time, by their ids. Returns whether there may be more.

        It begins where the last sweep of the node was cut off: else the first accounts could keep the others waiting.
        """
        after = self._received.get(connection.node, "")
        is_left = bool(after)  # those before it
        while found := [row[0] for row in await connection.rows(sql.WITH_PENDING, after, RECEIVE_ACCOUNTS_MAX)]:
            homes = self.placement
            now = asyncio.get_running_loop().time()
            self._full_until = {name: until for name, until in self._full_until.items() if until > now}
            names = {
                name
                for name in map(AccountId, found)
                if homes.is_at(slot_of(name), connection.node)
                and (connection.holds_gate or name not in self._full_until)
            }
            while names:
                names, are_locked = await self._receive_some(homes, connection, names)
                is_left |= are_locked
            self._received[connection.node] = after = found[-1]
        self._received.pop(connection.node, None)  # another sweep may run beside this one
        return is_left

    async def _receive_some(
        self, homes: Placement, connection: Connection, names: set[AccountId]
    ) -> tuple[set[AccountId], bool]:
        """One commit. Returns the accounts that have more to receive, and whether some were locked."""
        await connection.begin("BEGIN")
        state = State(connection.node, homes.peer_of(connection.node))
        found = await self._load(homes, connection, state, Wanted(accounts=names), "skip")
        if state.writes:
            await decide(Branch(connection, given(state.writes)))
        else:
            await connection.do("ROLLBACK")
        return self._received_of(state, found), bool(found["busy"])

    def _received_of(self, state: State, found: Mapping[str, Any]) -> set[AccountId]:
        """After a commit of the receiver, which has `found` this: the accounts that have more to receive."""
        pending = found.get("pending") or {"payees": ()}
        for account_id in set(pending["payees"]) - {row[0] for row in pending.get("credits") or ()}:
            text = f"credits of {account_id} stay pending: with the next one its balance would pass 64 bits"
            log_once_a_minute(log, logging.WARNING, f"pending {account_id}", text)
            self._full_until[account_id] = asyncio.get_running_loop().time() + _FULL_SECONDS
        self._hint(state.writes.accounts)
        return {credit.account_id for credit in state.writes.received} & state.backlog
