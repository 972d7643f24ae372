"""What the tests of MongoDB share."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.servers.mongo import program


def need_server() -> None:
    """Skip, with the reason, where no mongod can be started."""
    with server_or_skip():
        program()


@contextmanager
def around_a_test() -> Iterator[None]:
    """Skip without a server; and collect here, not in another test, what the driver forgets to close.

    That is the socket of a connecting that was cancelled because its client was closed meanwhile.
    """
    need_server()
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
