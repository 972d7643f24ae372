"""Which node is a slot's home: rendezvous (highest random weight) hashing of slots onto named nodes.

Adding a node to n nodes moves about 1/(n+1) of the slots, all of them to the new node. Source: Thaler and Ravishankar,
"Using name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

from ...domain.changes import Scope
from ...domain.errors import ConfigurationError
from ...domain.ids import SLOTS, clearing_account, is_system, slot_of
from ...domain.model import SystemEntry, Transfer


def _weight(slot: int, node: str) -> bytes:
    return hashlib.blake2b(f"{slot}\0{node}".encode(), digest_size=8).digest()


@lru_cache(maxsize=16)
def _homes(names: tuple[str, ...]) -> Sequence[str]:
    """The node of each slot. It takes milliseconds, and every store of a process asks for the same nodes."""
    return [max(names, key=lambda name: _weight(slot, name)) for slot in range(SLOTS)]


class NodeMap:
    """The home of each slot among the named nodes. It depends on the names, not on their order."""

    def __init__(self, names: Sequence[str], homes: Sequence[str] | None = None) -> None:
        """`homes` has the node of each slot, where that is stored.

        Raises:
            ConfigurationError: there are no names, or the same name twice.
        """
        if not names or len(set(names)) != len(names):
            raise ConfigurationError(f"node names must be given and differ: {list(names)}")
        self.names = tuple(sorted(names))
        self._home = _homes(self.names) if homes is None else homes

    def home(self, slot: int) -> str:
        """The node of a slot."""
        return self._home[slot]

    @property
    def homes(self) -> Sequence[str]:
        """The nodes of all slots, in order."""
        return self._home

    def peer_of(self, node: str) -> Callable[[int], str | None]:
        """For one node: a function from a slot to None if this node is its home, else to the home's name."""
        home = self._home

        def peer(slot: int) -> str | None:
            name = home[slot]
            return None if name == node else name

        return peer

    def touched(self, transfer: Transfer) -> tuple[str, ...]:
        """The nodes that hold a part of a transfer, the leader first."""
        leader = self.home(transfer.slot)
        both = [leader]
        for account_id in (transfer.debit_account_id, transfer.credit_account_id):
            if not is_system(account_id) and self.home(slot_of(account_id)) not in both:
                both.append(self.home(slot_of(account_id)))
        return tuple(both)

    def system_lines(self, transfer: Transfer, node: str) -> list[SystemEntry]:
        """The system and clearing entries of a transfer on one node; they follow from its header alone."""
        leader, *others = self.touched(transfer)
        lines: list[SystemEntry] = []
        if node == leader:
            lines += [
                SystemEntry(account_id, transfer.id, amount_minor, transfer.at)
                for account_id, amount_minor in transfer.legs()
                if is_system(account_id)
            ]
        for peer, sign in [(other, 1) for other in others] if node == leader else [(leader, -1)]:
            clearing = clearing_account(peer, transfer.currency)
            lines.append(SystemEntry(clearing, transfer.id, sign * transfer.net_minor, transfer.at))
        return lines

    def participants(self, scope: Scope) -> tuple[str, ...]:
        """The other nodes that a command's credits may reach, sorted."""
        if len(self.names) == 1:
            return ()
        leader = self.home(scope.home)
        slots = {slot_of(account_id) for account_id in scope.credits if not is_system(account_id)}
        return tuple(sorted({self.home(slot) for slot in slots} - {leader}))
