"""Moving slots between nodes under leases: as under two-phase commit, but for what crosses nodes and who may write.

Here a payment across nodes is a commit on the payer's node, which leaves an intent, and a later one on the payee's. The
payee's node does not take part in the first. So the freeze is *announced*: every other node gets a new epoch, after all
its open commits have ended. From then on no node decides a payment to the slots: a process that has a node's new epoch
asks for the payee's facts after the freeze, and is refused; one that has not is refused at the commit. All credits from
or to the slots that can ever be are then open intents, and they are taken in before any row is copied.

Fencing tokens go with their rows, so that a token which a row has refused at the source is refused at the target, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final

from ...failpoints import before_decision
from ..kit.nodes import NodeMap
from ..postgres.moves import FREEZE_MS, Moves, close_gate, patiently
from ..postgres.node import Connection, PgNode
from ..postgres.placement import Leaving, Placement, listed
from ..postgres.two_phase import Recovery
from .credits import Credits
from .leases import Leases

CREDITS: Final = 7205759403792798
"""The advisory lock that credits share on the node that takes them in."""

_ANNOUNCE: Final = "UPDATE node SET epoch = epoch + 1"
_OF_ACCOUNTS: Final = "SELECT id, fence FROM accounts WHERE substr(id, 18, 3) = ANY ($1) AND fence > 0"
_OF_RECORDS: Final = "SELECT kind, id, slot, fence FROM records WHERE slot = ANY ($1) AND fence > 0"
_TO_ACCOUNTS: Final = """
UPDATE accounts AS a SET fence = t.fence FROM unnest($1::text[], $2::bigint[]) AS t (id, fence) WHERE a.id = t.id
"""
_TO_RECORDS: Final = """
UPDATE records AS r SET fence = t.fence
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS t (kind, id, slot, fence)
WHERE r.kind = t.kind AND r.id = t.id AND r.slot = t.slot
"""


class LeaseMoves(Moves):
    """The steps of a move on nodes that are written under leases."""

    def __init__(
        self, cluster: str, nodes: Mapping[str, PgNode], recovery: Recovery, credits_: Credits, leases: Leases
    ) -> None:
        """See `Moves`."""
        super().__init__(cluster, nodes, recovery)
        self._credits = credits_
        self._leases = leases

    async def _freeze(self, homes: Placement, source: str, leaving: Leaving) -> None:
        # what is open is taken in before, so that the slots are not frozen for a payee whose node takes long
        await self._credits.settle_slots(listed(leaving.slots))
        await super()._freeze(homes, source, leaving)

    async def _settle(self, homes: Placement, source: str, leaving: Leaving) -> None:
        """Announce the freeze. Then send all that is open from or to the slots. Raises Contended, Unavailable."""
        others = [name for name in homes.names if name != source]
        announced = (patiently(partial(self._announce, name)) for name in others)
        for answer in await asyncio.gather(*announced, return_exceptions=True):
            if answer is not None:
                raise answer
        await self._credits.settle_slots(listed(leaving.slots))

    async def _announce(self, name: str) -> None:
        """Wait for the open commits of a node, and refuse those that begin without having heard of the freeze.

        It may be done again: each time only raises the epoch.
        """
        async with self._step(name) as connection:
            await close_gate(connection)
            await connection.rows(_ANNOUNCE)
        before_decision("moves.announced")

    async def _forget(self, source: str, leaving: Leaving, after: NodeMap) -> None:
        """Credits under way end first: they may have looked for their transfers before others brought these.

        Those that come later find the transfers, or no account any more.
        """
        await patiently(partial(self._outlast_credits, source))
        await super()._forget(source, leaving, after)

    async def _outlast_credits(self, name: str) -> None:
        async with self._step(name) as connection:
            await connection.do(f"SET LOCAL lock_timeout = '{FREEZE_MS}ms'; SELECT pg_advisory_xact_lock({CREDITS})")

    async def _carry(self, target: Connection, source: str, leaving: Leaving) -> None:
        """Take the fencing tokens along, and have the Redis give higher ones."""
        slots = listed(leaving.slots)
        accounts = await self._nodes[source].rows(_OF_ACCOUNTS, [f"{slot:03x}" for slot in slots], aside=True)
        records = await self._nodes[source].rows(_OF_RECORDS, slots, aside=True)
        if accounts:
            await target.rows(_TO_ACCOUNTS, *map(list, zip(*accounts, strict=True)))
        if records:
            await target.rows(_TO_RECORDS, *map(list, zip(*records, strict=True)))
        tokens = [row["fence"] for row in (*accounts, *records)]
        if tokens:
            await self._leases.raise_token(leaving.peer, max(tokens))
