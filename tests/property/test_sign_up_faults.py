"""If a sign-up fails at any step, the same request sent again at once completes it, or finds it complete."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from wallet_gql import failpoints
from wallet_gql.domain.changes import Decide, Scope
from wallet_gql.domain.errors import Contended, EmailTaken, InDoubt, Unavailable, UsernameTaken, WalletError
from wallet_gql.domain.model import Record
from wallet_gql.domain.users import User
from wallet_gql.failpoints import FailpointError
from wallet_gql.storage import Committed
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.world import CheapIdentity, World

PASSWORD: Final = "a good password"
STEPS: Final = 5
"""What a sign-up writes: two claims, the user, two confirmations."""

POINTS: Final = (
    "sign_up.reserved=fail@1",
    "sign_up.reserved=fail@2",
    "sign_up.created=fail",
    "sign_up.confirmed=fail@1",
    "sign_up.confirmed=fail@2",
)


class Failing:
    """A store whose n-th commit from now on fails, and perhaps all after it."""

    def __init__(self, store: Any, step: int, mode: str, *, stays: bool) -> None:
        self._store = store
        self._left = step
        self._mode = mode
        self._stays = stays

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def execute(self, scope: Scope, decide: Decide[Any], **values: Any) -> Committed[Any]:
        """See `Store.execute`."""
        self._left -= 1
        if self._left > 0 or (self._left < 0 and not self._stays):
            done: Committed[Any] = await self._store.execute(scope, decide, **values)
            return done
        if self._mode == "refused":
            raise Contended
        if self._mode == "written":
            await self._store.execute(scope, decide, **values)
        raise InDoubt


async def _again(world: World) -> None:
    """The same request at once: it succeeds, or the name is taken by what the first one has created."""
    identity = world.identity()
    with suppress(UsernameTaken):
        await identity.sign_up("ann", "ann@example.org", PASSWORD)
    for login in ("ann", "ann@example.org"):
        assert (await identity.log_in(login, PASSWORD)).user.username == "ann"
    everything = (await world.store.scan("record", None, 1_000)).items
    stored = (one for one in everything if isinstance(one, Record) and one.kind == "user")
    assert len([one for one in stored if User.from_record(one)]) == 1


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
@pytest.mark.parametrize("point", POINTS)
async def test_k5_a_process_that_dies(point: str, backend: str, tmp_path: Path) -> None:
    """At every point between two commits."""
    async with World(harness_for(backend), tmp_path) as world:
        failpoints.arm(point)
        with pytest.raises(FailpointError):
            await world.identity().sign_up("ann", "ann@example.org", PASSWORD)
        failpoints.arm("")
        await _again(world)


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("mode", ["refused", "written", "lost"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
async def test_k5_a_commit_that_fails(step: int, mode: str, stays: bool, tmp_path: Path) -> None:
    """Whether nothing was written, or nobody knows; and whether the store comes back within the request."""
    async with World(harness_for("memory"), tmp_path) as world:
        store: Any = Failing(world.store, step, mode, stays=stays)
        with suppress(Unavailable, InDoubt):
            await CheapIdentity(store, world.clock).sign_up("ann", "ann@example.org", PASSWORD)
        await _again(world)


@pytest.mark.parametrize("mode", ["refused", "written", "lost"])
@pytest.mark.parametrize("step", [1, 2, 3])
async def test_others_have_the_names_at_once(step: int, mode: str, tmp_path: Path) -> None:
    """What was not created keeps no name from anybody, if the store answers again within the request."""
    async with World(harness_for("memory"), tmp_path) as world:
        store: Any = Failing(world.store, step, mode, stays=False)
        identity = CheapIdentity(store, world.clock)
        try:
            await identity.sign_up("ann", "ann@example.org", PASSWORD)
        except WalletError:
            await world.identity().sign_up("ann", "another@example.org", PASSWORD)
            await world.identity().sign_up("another", "ann@example.org", PASSWORD)
        else:
            assert (step, mode) == (3, "written")  # it was found to have been created


@pytest.mark.parametrize("point", POINTS[:2])
async def test_other_requests_still_wait_their_minute(point: str, tmp_path: Path) -> None:
    """Only the same request takes over what may be under way; others do not disturb it."""
    async with World(harness_for("memory"), tmp_path) as world:
        failpoints.arm(point)
        with pytest.raises(FailpointError):
            await world.identity().sign_up("ann", "ann@example.org", PASSWORD)
        failpoints.arm("")
        with pytest.raises(UsernameTaken):
            await world.identity().sign_up("ann", "another@example.org", PASSWORD)


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_twenty_times_the_same_request_at_once(backend: str, tmp_path: Path) -> None:
    """One of them creates the user; the others are told that a name is taken, or to try again.

    Who has lost the username to the winner may come to the e-mail address when the winner has that, too.
    """
    async with World(harness_for(backend), tmp_path) as world:
        identities = [world.identity(store) for store in await world.stores(2)]
        outcomes = await world.together(
            identities[i % len(identities)].sign_up("ann", "ann@example.org", PASSWORD) for i in range(20)
        )
        won = [outcome for outcome in outcomes if isinstance(outcome, User)]
        assert len(won) == 1
        assert all(isinstance(one, UsernameTaken | EmailTaken | Unavailable) for one in outcomes if one not in won)
        assert await world.identity().find("ann") == won[0] == await world.identity().find("ann@example.org")
        await _again(world)
