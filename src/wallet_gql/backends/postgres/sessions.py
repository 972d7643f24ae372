"""Whether a connection is a session of its own: a pooler between may give each statement to another one.

Then locks, settings and prepared statements get lost or are other clients', which fails only under load.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import asyncpg

from ...domain.errors import ConfigurationError, WalletError
from .node import CURRENT, SETTINGS, Connection, PgNode

_OTHERS: Final = 3
"""How many more connections are used meanwhile, so that a pooler has other clients to serve."""

_SECONDS: Final = 15.0
_PID: Final = "SELECT pg_backend_pid()"
_FORGOTTEN: Final = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError, TimeoutError)
"""Errors of a statement whose session a pooler has given to somebody else."""

_REMEDY: Final = (
    "connect to the server itself, or let the pooler keep sessions (PgBouncer: pool_mode = session) and pass on "
    "startup parameters (no ignore_startup_parameters)"
)


async def check_sessions(node: PgNode) -> None:
    """Ask who serves a connection before and while others are used.

    Raises:
        ConfigurationError: it is not one session, or the session has not the settings that were asked for.
        Unavailable: the node does not answer.
    """
    connecting = True
    try:
        async with AsyncExitStack() as stack:
            deadline = asyncio.get_running_loop().time() + _SECONDS
            first = await stack.enter_async_context(node.connection(deadline))
            connecting = False
            await _check_settings(node, first)
            pid = await first.value(_PID)
            for _ in range(min(_OTHERS, node.pool_max - 1)):
                connecting = True
                other = await stack.enter_async_context(node.connection(deadline))
                connecting = False
                await other.do("BEGIN")
                others_pid = await other.value(_PID)
                if pid == others_pid or await first.value(_PID) != pid:
                    raise _refused(node, "does not keep a session to one connection")
    except ConfigurationError:
        raise
    except WalletError as error:
        if isinstance(error.__cause__, _FORGOTTEN) and not connecting:  # a busy server may be slow to accept
            raise _refused(node, "does not keep a session to one connection") from error
        raise


async def _check_settings(node: PgNode, connection: Connection) -> None:
    wanted = {name: value for name, value in SETTINGS.items() if name != "application_name"}
    found = await connection.value(CURRENT, list(wanted))
    for (name, value), current in zip(wanted.items(), found, strict=True):
        if current != value:
            raise _refused(node, f"does not pass on the setting {name}")


def _refused(node: PgNode, what: str) -> ConfigurationError:
    return ConfigurationError(f"node {node.name}: there is a pooler before it that {what}; {_REMEDY}")
