"""A backend of another package, as small as it can be: `toy://`, one node, in this process's memory.

It borrows the reference model's tables and shows what is a backend's own: the commit.
"""

# docs: begin
from __future__ import annotations

from collections.abc import Hashable, Sequence
from urllib.parse import urlsplit

from wallet_gql.backends.kit import Command, NodeMap, Wanted
from wallet_gql.backends.memory import MemoryStore
from wallet_gql.domain.changes import Outcome, State, decide_all
from wallet_gql.domain.errors import ConfigurationError
from wallet_gql.storage import Capabilities

NODE = "n1"
NODES = NodeMap([NODE])


class ToyStore(MemoryStore):
    """`toy://`: everything in dictionaries; nothing outlives the process (G3 holds as long as it does)."""

    name = "toy"

    def __init__(self, url: str) -> None:
        """Raises ConfigurationError if the URL names anything: there is nothing to choose."""
        super().__init__("memory://")
        if urlsplit(url).netloc:
            raise ConfigurationError(f"{url}: write toy://")
        self.capabilities = Capabilities(durable=False, multi_process=False, spans_nodes=False, snapshot_reads=True)

    async def _commit(self, lane: Hashable, batch: Sequence[Command], wait_seconds: float) -> list[Outcome]:
        """Load, decide, write: all of a batch or nothing."""
        tables = self.nodes[NODE]
        async with self.writing:  # 1. isolate: here nobody else runs until this block ends
            state = State(NODE, NODES.peer_of(NODE))
            wanted = Wanted.of(command.scope for command in batch)
            tables.load(state, wanted)  # 2. load the named records; what is absent stays absent
            pairs = [(command.scope, command.decide) for command in batch]
            outcomes = decide_all(state, pairs)  # 3. decisions are checked and posted by shared code
            tables.check(state.writes)  # 4. unique keys: raises before anything is written
            tables.write(state.writes)  # 5. write and commit; a real store makes it durable here
        self._hint(state.writes.accounts)  # watchers look sooner
        return outcomes


# docs: end
