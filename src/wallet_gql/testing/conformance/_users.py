"""Names are unique and a sign-up happens once, with slow and with concurrent sign-ups."""

from __future__ import annotations

import asyncio

import pytest

from ...domain.errors import Unauthenticated, Unavailable, UsernameTaken, WalletError
from ...domain.ids import UserId
from ...domain.model import Record
from ...domain.users import CLAIM_LASTS, User, username_claim
from ...records import Swept
from ..patience import within
from ..world import CheapIdentity, World
from .suite import Suite, kinds

CROWD = 20
PASSWORD = "a good password"  # noqa: S105 - of invented people
CLAIM_SECONDS = CLAIM_LASTS.total_seconds()


class SlowIdentity(CheapIdentity):
    """Sign-ups that stop, if told to, between reserving their names and creating the user."""

    def __init__(self, world: World) -> None:
        """Over the world's store and clock."""
        super().__init__(world.store, world.clock)
        self.reserved, self.go_on = asyncio.Event(), asyncio.Event()
        create = self.names.create

        async def slowly(user: User, *beside: Record) -> None:
            self.reserved.set()
            await self.go_on.wait()
            await create(user, *beside)

        self.names.create = slowly  # type: ignore[method-assign]  # simulates a process that sleeps


class Users(Suite):
    """Sign-up races, with cheap passwords."""

    async def test_user_one_name_is_given_once(self, world: World) -> None:
        """Of 20 sign-ups with one username at once, one wins; the losers' addresses are free again."""
        stores = await world.stores(2)
        identities = [world.identity(store) for store in stores]
        outcomes = await world.together(
            identities[i % len(identities)].sign_up("ann", f"ann{i}@example.org", PASSWORD) for i in range(CROWD)
        )
        assert kinds(outcomes) == ["USERNAME_TAKEN"] * (CROWD - 1) + ["ok"]
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, User)]
        found = await world.identity().find("ann")
        assert found == winner
        losers = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, WalletError)]
        again = await world.together(identities[0].sign_up(f"ann{i}", f"ann{i}@example.org", PASSWORD) for i in losers)
        assert kinds(again) == ["ok"] * len(losers)

    async def test_user_one_address_is_given_once(self, world: World) -> None:
        """Of 20 sign-ups with one e-mail address at once, one wins; the losers' usernames are free again."""
        identities = [world.identity(store) for store in await world.stores(2)]
        outcomes = await world.together(
            identities[i % len(identities)].sign_up(f"ann{i}", "ann@example.org", PASSWORD) for i in range(CROWD)
        )
        assert kinds(outcomes) == ["EMAIL_TAKEN"] * (CROWD - 1) + ["ok"]
        losers = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, WalletError)]
        again = await world.together(identities[0].sign_up(f"ann{i}", f"ann{i}@example.org", PASSWORD) for i in losers)
        assert kinds(again) == ["ok"] * len(losers)

    async def test_user_crossed_names(self, world: World) -> None:
        """Two sign-ups that each want the other's name, too, never both succeed; the loser leaves nothing behind."""
        for i in range(CROWD):
            outcomes = await world.together(
                [
                    world.identity().sign_up(f"name{i}", f"one{i}@example.org", PASSWORD),
                    world.identity().sign_up(f"name{i}", f"two{i}@example.org", PASSWORD),
                    world.identity().sign_up(f"other{i}", f"one{i}@example.org", PASSWORD),
                ]
            )
            won = [outcome for outcome in outcomes if isinstance(outcome, User)]
            assert len({user.username for user in won}) == len(won)
            assert len({user.email for user in won}) == len(won)
            world.clock.advance(CLAIM_SECONDS + 1)
            await world.identity().sweep()
            for user in won:
                assert await world.identity().find(user.username) == user
                assert await world.identity().find(user.email) == user

    async def test_user_a_slow_creator_loses(self, world: World) -> None:
        """A sign-up whose claim expired and was taken over cannot complete late: a tombstone fences it."""
        slow = SlowIdentity(world)
        late = asyncio.ensure_future(slow.sign_up("ann", "slow@example.org", PASSWORD))
        await slow.reserved.wait()
        with pytest.raises(UsernameTaken):
            await world.identity().sign_up("ann", "fast@example.org", PASSWORD)
        world.clock.advance(CLAIM_SECONDS + 1)
        winner = await world.identity().sign_up("ann", "fast@example.org", PASSWORD)
        slow.go_on.set()
        with pytest.raises(Unavailable):
            await within(5, late)
        assert await world.identity().find("ann") == winner
        assert await world.identity().find("slow@example.org") is None
        world.clock.advance(CLAIM_SECONDS + 1)
        await world.identity().sweep()
        await world.identity().sign_up("slow", "slow@example.org", PASSWORD)
        await _log_in(world, "ann", winner.id)

    async def test_user_a_creator_in_time_keeps_the_name(self, world: World) -> None:
        """A user created before its claim was taken over stays; a sign-up that wants the name is refused."""
        slow = SlowIdentity(world)
        late = asyncio.ensure_future(slow.sign_up("ann", "slow@example.org", PASSWORD))
        await slow.reserved.wait()
        world.clock.advance(CLAIM_SECONDS + 1)
        slow.go_on.set()
        created = await within(5, late)
        with pytest.raises(UsernameTaken):
            await world.identity().sign_up("ann", "fast@example.org", PASSWORD)
        assert await world.identity().find("ann") == created
        await _log_in(world, "slow@example.org", created.id)

    async def test_user_a_race_between_creator_and_takeover(self, world: World) -> None:
        """If a slow creator and others take a name at the same moment, one of them gets it, and all answers agree."""
        for i in range(CROWD):
            slow = SlowIdentity(world)
            name = f"ann{i}"
            late = asyncio.ensure_future(slow.sign_up(name, f"slow{i}@example.org", PASSWORD))
            await slow.reserved.wait()
            world.clock.advance(CLAIM_SECONDS + 1)
            slow.go_on.set()
            outcomes = await world.together(
                [late, *(world.identity().sign_up(name, f"fast{i}-{j}@example.org", PASSWORD) for j in range(3))]
            )
            (winner,) = [outcome for outcome in outcomes if isinstance(outcome, User)]
            assert await world.identity().find(name) == winner

    async def test_user_the_sweep_finishes_an_abandoned_sign_up(self, world: World) -> None:
        """A sign-up that died before its user was created leaves its names free; its user id is never created."""
        slow = SlowIdentity(world)
        dead = asyncio.ensure_future(slow.sign_up("ann", "ann@example.org", PASSWORD))
        await slow.reserved.wait()
        dead.cancel()
        await asyncio.gather(dead, return_exceptions=True)
        key = username_claim("ann")
        assert await world.record(key) is not None
        assert await world.identity().sweep() == Swept()
        world.clock.advance(CLAIM_SECONDS)
        assert await world.identity().sweep() == Swept(done=2)
        assert await world.record(key) is None
        await world.identity().sign_up("ann", "ann@example.org", PASSWORD)

    async def test_user_a_session_that_ended_stays_ended(self, world: World) -> None:
        """Using and ending a session at the same time never brings it back."""
        identity = world.identity()
        await identity.sign_up("ann", "ann@example.org", PASSWORD)
        for _ in range(CROWD):
            entered = await identity.log_in("ann", PASSWORD)
            world.clock.advance(120)
            uses = [identity.authenticate(entered.token) for _ in range(5)]
            outcomes = await world.together([*uses[:3], identity.log_out(entered.session), *uses[3:]])
            assert set(kinds(outcomes)) <= {"ok", "UNAUTHENTICATED"}
            with pytest.raises(Unauthenticated):
                await identity.authenticate(entered.token)


async def _log_in(world: World, login: str, user_id: UserId) -> None:
    entered = await world.identity().log_in(login, PASSWORD)
    assert entered.user.id == user_id
    assert (await world.identity().authenticate(entered.token)).user_id == user_id
