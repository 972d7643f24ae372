"""A wallet behind a network that can be cut; after each test its books are audited."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration._clusters import ClusterPool
from tests.integration._wallet_page import House, house_in
from wallet_gql.books.audit import Report, audit
from wallet_gql.runtime import Wallet
from wallet_gql.testing.patience import insist, wait_until


@pytest.fixture(scope="package", params=["sqlite", pytest.param("postgres", marks=[pytest.mark.service("postgres")])])
def built(
    request: pytest.FixtureRequest, clusters: ClusterPool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    """A wallet for browsers: over SQLite, or with two workers over three Postgres nodes."""
    folder = tmp_path_factory.mktemp("house")
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield stack.enter_context(house_in(folder, f"sqlite:///{folder / 'wallet.db'}"))
            return
        cluster = stack.enter_context(clusters.lend(3, {}))
        yield stack.enter_context(house_in(folder, cluster.url(cluster.take()), "--workers", "2"))


@pytest.fixture
def house(built: House) -> Iterator[House]:
    """That wallet, with its network whole. At the end the books are in order, once all money has arrived."""
    yield built
    built.network(built.proxy.keep_replies)
    built.network(built.proxy.accept)
    wait_until(lambda: built.beside(audited).clean, 30, "the books are not in order", 1)


async def audited(wallet: Wallet) -> Report:
    """What is wrong in the books; asked again where the store does not answer a busy machine in time."""
    return await insist(lambda: audit(wallet.store))
