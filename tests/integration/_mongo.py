"""What the tests of MongoDB share."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from wallet_gql.testing.servers.mongo import program
from wallet_gql.testing.servers.process import ServerMissing


def need_server() -> None:
    """Skip, with the reason, where no mongod can be started."""
    try:
        program()
    except ServerMissing as missing:
        pytest.skip(str(missing))  # the server cannot be started here; CI forbids skips


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
