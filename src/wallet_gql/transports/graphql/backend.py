"""What the wallet stands on: the store in use, what it can do and what it promises."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ...storage import Capabilities, Store
from .describe import about, enum_type, object_type

_GUARANTEE: Final = re.compile(r"^- \*\*(?P<name>G\d+)\*\* (?P<text>.+(?:\n  .+)*)", re.MULTILINE)


class RemoteCredit(Enum):
    """When a payee on another node has the money."""

    ATOMIC = "atomic"
    EVENTUAL = "eventual"


enum_type(
    RemoteCredit,
    "When a payee whose account is on another node has the money.",
    {
        "ATOMIC": "Before the payer has the answer, as long as the payee's node answers; else later, and certainly.",
        "EVENTUAL": "A little after the payer has the answer, and certainly.",
    },
)


@object_type
class BackendCapabilities:
    """What a store can do beyond the guarantees."""

    durable: bool = about("Whether what was answered survives a crash.")
    multi_process: bool = about("Whether several processes may share it.")
    spans_nodes: bool = about("Whether it has more than one node.")
    snapshot_reads: bool = about(
        "Whether a read sees one moment on all nodes. If not, it may see a transfer between its two sides; decisions "
        "never do."
    )
    remote_credit: RemoteCredit = about("When a payee whose account is on another node has the money.")

    @classmethod
    def of(cls, found: Capabilities) -> BackendCapabilities:
        """The capabilities of a store."""
        return cls(
            durable=found.durable,
            multi_process=found.multi_process,
            spans_nodes=found.spans_nodes,
            snapshot_reads=found.snapshot_reads,
            remote_credit=RemoteCredit(found.remote_credit),
        )


@object_type
class Guarantee:
    """One promise of the storage protocol. Every backend keeps it, and a test of its own proves it."""

    name: str = about("What it is called: `G1` to `G8`.")
    text: str = about("What is promised, in English.")


@object_type
class Backend:
    """The store in use."""

    name: str = about("Which one it is, such as `sqlite` or `postgres`.")
    capabilities: BackendCapabilities = about("What it can do beyond the guarantees.")
    guarantees: list[Guarantee] = about("What every store promises, in the words of the storage protocol.")

    @classmethod
    def of(cls, store: Store) -> Backend:
        """As the store describes itself."""
        capabilities = BackendCapabilities.of(store.capabilities)
        return cls(name=store.name, capabilities=capabilities, guarantees=list(GUARANTEES))


def _guarantees() -> tuple[Guarantee, ...]:
    """The guarantees as `Store`'s docstring lists them: written once, for authors of backends and clients alike."""
    found = _GUARANTEE.finditer(re.sub(r"^    ", "", Store.__doc__ or "", flags=re.MULTILINE))
    return tuple(Guarantee(name=m["name"], text=" ".join(m["text"].split())) for m in found)


GUARANTEES: Final = _guarantees()
