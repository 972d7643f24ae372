"""What top-ups and withdrawals have in common: reading, beginning, waiting, sweeping."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ...domain.changes import Snapshot
from ...domain.errors import InDoubt, InvariantViolated, PaymentsNotConfigured, Unavailable, WalletError
from ...domain.ids import OPERATOR, UserId, is_id, slot_of
from ...domain.model import Record, RecordKey
from ...domain.payments import Alarm, Step
from ...records import SweepKind, Swept, page_of_records
from ...storage import PAGE_MAX, Page
from ...verbs.keyed import Posted
from .desk import Desk, Flow, already_noted, read_flow

if TYPE_CHECKING:
    from .api import StripeApi

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Flow)
Id = TypeVar("Id", bound=str)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Kind(Generic[Id, F]):
    """A kind of flow: its name in messages, the kind of its records, how ids begin, the error for an unknown id."""

    name: str
    record: SweepKind
    prefix: str
    id_of: Callable[[str], Id]
    read: Callable[[Record], F]
    missing: Callable[[str], WalletError]


class Flows(ABC, Generic[Id, F]):
    """All flows of one kind."""

    def __init__(self, desk: Desk, api: StripeApi | None, kind: Kind[Id, F]) -> None:
        """Without an `api`, existing flows can be read, and none can be requested."""
        self._desk = desk
        self._api = api
        self._kind = kind
        self._sweep = desk.sweep(kind.record, lambda name: self.advance(self._kind.id_of(name)))

    async def get(self, actor: str, flow_id: str) -> F:
        """One of the actor's flows; an operator may read any. Raises TopUpNotFound or WithdrawalNotFound."""
        found = await self._named(flow_id)
        if found is None or actor not in (found.owner, OPERATOR):
            raise self._kind.missing(flow_id)
        return found

    async def list(self, owner: UserId, *, after: str = "", limit: int = PAGE_MAX, backward: bool = False) -> Page[F]:
        """The user's flows older than the one with the id `after`, or newer if `backward`; newest first."""
        page = await page_of_records(
            self._desk.store, self._kind.record, owner, limit, behind=after, descending=True, backward=backward
        )
        return Page(tuple(map(self._kind.read, page.items)), page.has_more)

    @abstractmethod
    async def advance(self, flow_id: Id) -> object:
        """Take the next step of a flow. Raises WalletError from the store: it can be continued later."""

    async def sweep(self, limit: int = 100) -> Swept:
        """Advance the flows that are due."""
        return Swept() if self._api is None else await self._sweep.run(limit)

    @abstractmethod
    def _look_again(self, flow: F, now: datetime) -> F:
        """The rule that sets the time of a flow's next look."""

    @abstractmethod
    async def _fold(self, flow: F, step: Callable[[Snapshot, F], Step[F]]) -> F:
        """Commit a step of a flow."""

    def _provider(self) -> StripeApi:
        if self._api is None:
            raise PaymentsNotConfigured
        return self._api

    async def _load(self, flow_id: Id) -> F | None:
        return await read_flow(
            self._desk.store, RecordKey(self._kind.record, flow_id, slot_of(flow_id)), self._kind.read
        )

    async def _existing(self, flow_id: Id) -> F:
        found = await self._load(flow_id)
        if found is None:
            raise InvariantViolated(f"{self._kind.name} {flow_id} has vanished")
        return found

    async def _named(self, text: str) -> F | None:
        """The flow of that id, if the text is one."""
        return await self._load(self._kind.id_of(text)) if is_id(self._kind.prefix, text) else None

    async def _flow_of(self, text: str, about: str) -> F | None:
        """The flow that an object of Stripe's names. If there is none, tell the operator about the object."""
        found = await self._named(text)
        if found is None:
            await self._desk.alarm(Alarm(about, f"it names the {self._kind.name} {text[:60]}, which does not exist"))
        return found

    async def _begin(self, posted: Posted[F], first_steps: Coroutine[Any, Any, R], stored: R) -> R:
        """Take the first steps of a flow that has just been stored, or was before. Returns `stored` if they fail.

        Raises:
            InDoubt: the key was used before, and the store does not answer now.
        """
        if posted.replayed:
            with already_noted():
                return await first_steps
        try:
            return await first_steps
        except (Unavailable, InDoubt) as error:
            log.warning("%s %s is stored; a sweep continues it: %s", self._kind.name, posted.result.key.id, error)
            return stored

    async def _wait(self, flow: F, alarm: Alarm | None = None) -> F:
        """Set when to look at it next; never, if it is over."""
        now = self._desk.clock()
        return await self._fold(flow, lambda _, found: Step(self._look_again(found, now), alarm=alarm))
