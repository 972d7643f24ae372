"""What every resolver can reach: the wallet, the caller, the response, and the batched look-ups of the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import strawberry
from starlette.responses import Response
from strawberry.dataloader import DataLoader

from ...domain.annotations import Annotation, Side
from ...domain.ids import AccountId, UserId
from ...idempotency import key_of
from ...runtime import Wallet
from ...verbs.annotations import annotations_of
from ...verbs.ledger import Ledger
from ...verbs.parties import Party, parties_of
from ..http.auth import Caller
from .cost import Price
from .live import Live


@dataclass(slots=True)
class Context:
    """What the resolvers of one request share."""

    wallet: Wallet
    caller: Caller
    answer: Response | None = None
    """What resolvers set headers and cookies on, once one does."""
    live: Live = field(default_factory=Live)
    cost: Price = field(default_factory=Price)
    """The cost of the operation, as far as it is known."""
    resume_from: str | None = None
    """The id of the event after which a subscription resumes, if the transport knows it."""
    event_id: str | None = None
    """The id of the newest event of a subscription."""
    _parties: DataLoader[AccountId, Party | None] | None = None
    _annotations: DataLoader[Side, Annotation] | None = None

    @property
    def response(self) -> Response:
        """The response whose headers and cookies are added to the answer's."""
        if self.answer is None:
            self.answer = Response()
            del self.answer.headers["content-length"]
        return self.answer

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that resolvers have set."""
        return [] if self.answer is None else self.answer.headers.raw

    @property
    def parties(self) -> DataLoader[AccountId, Party | None]:
        """Whose each account is. All that are requested together take two reads."""
        if self._parties is None:
            self._parties = DataLoader(load_fn=self._load_parties)
        return self._parties

    @property
    def annotations(self) -> DataLoader[Side, Annotation]:
        """What sides of transfers have noted. All that are requested together take one read; nothing is remembered."""
        if self._annotations is None:
            self._annotations = DataLoader(load_fn=self._load_annotations, cache=False)
        return self._annotations

    @property
    def ledger(self) -> Ledger:
        """The verbs."""
        return self.wallet.ledger

    async def user_id(self) -> UserId:
        """The id of the user who sent the request. Raises Unauthenticated."""
        return (await self.caller.session()).user_id

    async def key(self, given: str) -> str:
        """The caller's idempotency key that a text spells. Raises InvalidInput, Unauthenticated."""
        return await key_of(self.wallet.store, await self.user_id(), given)

    async def pay_again(self) -> None:
        """Deduct the cost of one more event of a subscription, which is that of the first. Raises RateLimited."""
        await self.caller.spend(self.cost.requested or 0)

    async def count_list(self, name: str, items: int) -> None:
        """Deduct the cost of the items by which a list is longer than was counted, before any of them is resolved.

        Raises OverLimit, RateLimited.
        """
        await self.caller.spend(self.cost.add(name, items))

    async def charge(self, more: int) -> None:
        """Deduct a cost that shows only when the operation runs, before the work is done.

        Raises OverLimit, RateLimited.
        """
        await self.caller.spend(self.cost.charge(more))

    async def _load_annotations(self, sides: list[Side]) -> list[Annotation]:
        known = await annotations_of(self.wallet.store, sides)
        return [known[side] for side in sides]

    async def _load_parties(self, account_ids: list[AccountId]) -> list[Party | None]:
        known = await parties_of(self.wallet.store, account_ids)
        return [known.get(account_id) for account_id in account_ids]


Info: TypeAlias = strawberry.Info[Context, None]
