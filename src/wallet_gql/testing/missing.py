"""A test whose server cannot be started on this machine is skipped, with the reason; CI forbids skips."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .servers.process import ServerMissing


@contextmanager
def server_or_skip() -> Iterator[None]:
    """Skip the test if the block finds that a server is missing."""
    try:
        yield
    except ServerMissing as missing:
        pytest.skip(str(missing))  # as the module says: this machine lacks it
