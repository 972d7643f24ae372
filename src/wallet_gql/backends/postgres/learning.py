"""The placement that a process goes by, and how it learns a newer one.

A process reads the placement when it opens the ledger, and again whenever a node refuses the epoch that it sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from ...background import log_once_a_minute
from ...domain.errors import ConfigurationError, Unavailable, WalletError
from ...urls import parse
from .node import PgNode
from .parameters import for_driver
from .placement import GONE, Placement, Told, Unsettled, all_members, hashed
from .setup import check_identities, check_node, identity_of, parse_url

log = logging.getLogger("wallet_gql.postgres")

PAUSE_SECONDS: Final = 0.02
"""The pause before the nodes are asked again, if nothing has changed or their answers do not fit together."""

_UNSETTLED_MAX: Final = 50
"""How often they are asked again in one go."""


class Learning:
    """What this process knows of the placement."""

    def __init__(self, url: str, nodes: dict[str, PgNode]) -> None:
        """`url` names the `nodes`; those that are learned are added to them."""
        self._url = url
        self._nodes = nodes
        self._lock = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._two_phase = False
        by_hash = hashed(list(nodes))
        self.known = Placement({name: Told("", name, 1, here, None, {}) for name, here in by_hash.items()})
        """The newest placement that was read; before the store is open, the one of a new ledger."""

    async def begin(self, told: Mapping[str, Told], *, two_phase: bool) -> None:
        """Take over what the nodes said when the store was opened, and open those nodes that only the ledger knows.

        Raises:
            ConfigurationError: such a node cannot be used.
            Unavailable: the nodes' answers do not fit together.
        """
        self._two_phase = two_phase
        for name, member in all_members(told.values()).items():
            if name not in told and member.state != GONE:
                await self._meet(name, told)
        async with self._lock:
            await self._read(strictly=True)

    async def learn(self, known: Placement) -> None:
        """Read the placement again unless it is newer than the `known` one already. Raises nothing.

        All who wait share one read. If it finds nothing new there is a pause: whoever asks waits for something.
        """
        if self.known is not known:
            return
        if self._running is None:
            self._running = asyncio.create_task(self._learn(known))
        await asyncio.wait([self._running])

    async def _learn(self, known: Placement) -> None:
        try:
            await self.learn_now()
            if self.known is known:
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._running = None

    async def learn_all(self) -> None:
        """Read the placement as it is at some moment from now on, from every node. Raises Unavailable."""
        async with self._lock:
            await self._read(strictly=True)

    async def learn_now(self) -> None:
        """Read the placement as it is at some moment from now on, as far as nodes answer. Raises nothing."""
        async with self._lock:
            try:
                await self._read(strictly=False)
            except WalletError as error:
                log_once_a_minute(log, logging.WARNING, "placement", f"the placement of slots stays as known: {error}")

    async def close(self) -> None:
        """End what is being read."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _read(self, *, strictly: bool) -> None:
        said = ""
        for _ in range(_UNSETTLED_MAX):
            told, silent = await self._told(strictly=strictly)
            try:
                found = Placement(told, silent)
            except Unsettled as error:
                said = str(error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if strictly or (found.epochs, found.members) != (self.known.epochs, self.known.members):
                self.known = found
                for name, member in found.members.items():
                    if name in self._nodes:
                        self._nodes[name].is_gone = member.state == GONE
            return
        raise Unavailable(f"the nodes do not agree: {said}")

    async def _told(self, *, strictly: bool) -> tuple[dict[str, Told], set[str]]:
        """What the nodes say now, and which do not answer; of these, what they said before.

        Raises:
            Unavailable: a node does not answer, if that matters (`strictly`).
        """
        told: dict[str, Told] = {}
        silent: set[str] = set()

        async def ask(name: str) -> None:
            try:
                if name not in self._nodes:
                    await self._meet(name, told)
                told[name] = await self._of(self._nodes[name])
            except WalletError as error:
                if strictly:
                    raise
                silent.add(name)
                if name not in self._nodes:
                    text = f"node {name} was added, and cannot be used here: {error.detail or error.message}"
                    log_once_a_minute(log, logging.ERROR, f"added {name}", text)

        await asyncio.gather(*(ask(name) for name, node in self._nodes.items() if not node.is_gone))
        for name in silent & self.known.told.keys():
            told[name] = self.known.told[name]
        for name, member in all_members(told.values()).items():
            if name not in told and name not in silent and member.state != GONE:
                await ask(name)
        return told, silent

    async def _of(self, node: PgNode) -> Told:
        told = await identity_of(node)
        if told is None:
            raise Unavailable(f"node {node.name} is blank")
        return told

    async def _meet(self, name: str, told: Mapping[str, Told]) -> None:
        """Open a node that the settings may not name. Raises ConfigurationError, Unavailable."""
        url = parse_url(self._url).get(name)  # a file of nodes may have been changed meanwhile
        address = all_members(told.values())[name].address
        if not url and not address:
            raise ConfigurationError(f"node {name} was added to the ledger: name it in WALLET_STORAGE, too")
        node = PgNode(name, url or for_driver(parse(address)))
        try:
            await node.open()
            await check_node(node, two_phase=self._two_phase)
            check_identities({**told, name: await self._of(node)})
        except BaseException:
            await node.close()
            raise
        node.is_strict = True
        self._nodes[name] = node
