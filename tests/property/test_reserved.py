"""Names that users could mistake for the wallet itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallet_gql.domain.errors import InvalidInput
from wallet_gql.domain.merchants import check_name
from wallet_gql.domain.reserved import RESERVED, refuse_reserved
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.world import World


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a9_nobody_is_called_like_the_wallet(name: str) -> None:
    """Neither a user nor a merchant, in whatever case and with whatever marks between the letters."""
    for spelling in (name, name.upper(), f"{name[0]}.{name[1:]}", f" {name}_"):
        with pytest.raises(InvalidInput):
            refuse_reserved(spelling, "username")
    with pytest.raises(InvalidInput):
        check_name(name.title())


@pytest.mark.parametrize("name", ["system", "Admin", "support", "Wallet-GQL", "re.fund"])
async def test_a9_nobody_signs_up_like_the_wallet(name: str, tmp_path: Path) -> None:
    """The sign-up asks the list."""
    async with World(harness_for("memory"), tmp_path) as world:
        with pytest.raises(InvalidInput, match="the wallet's own"):
            await world.identity().sign_up(name, "x@example.org", "a good password")


@pytest.mark.parametrize("name", ["anna", "bank-of-anna", "systematic", "the help desk of bob", "wallets"])
def test_names_that_only_contain_one_may_be_chosen(name: str) -> None:
    """They are compared as a whole."""
    assert refuse_reserved(name, "name") == name
