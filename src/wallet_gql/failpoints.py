"""Named points in the product's own code at which a test can kill, stop or fail the process.

They are armed by the environment, in test mode only: `WALLET_FAILPOINTS="sqlite.written=kill@3"` kills the process
with SIGKILL when it passes `sqlite.written` for the third time. Actions: `kill`, `stop` (SIGSTOP), `fail` (raises
`FailpointError`), `sleep:SECONDS`. An unarmed point costs one look-up in an empty dict. In any mode but `test` the
wallet refuses to start while the variable is set.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Final

from .domain.errors import InDoubt, Unavailable

VARIABLE: Final = "WALLET_FAILPOINTS"


class FailpointError(Exception):
    """Raised by the action `fail`, in place of any error of a driver or of the machine."""


@dataclass(slots=True)
class _Armed:
    action: str
    hits_left: int


_armed: dict[str, _Armed] = {}


def arm(text: str) -> None:
    """Arm failpoints from `name=action@hit,…`; `hit` counts from 1 and defaults to 1. Replaces earlier ones.

    Raises:
        ValueError: the text is malformed.
    """
    _armed.clear()
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, rest = item.partition("=")
        action, _, hit = rest.partition("@")
        if action.partition(":")[0] not in ("kill", "stop", "fail", "sleep"):
            raise ValueError(f"failpoint {item!r}: write name=action@hit with kill, stop, fail or sleep:SECONDS")
        _armed[name] = _Armed(action, int(hit or 1))


def reach(name: str) -> None:
    """Pass the point `name`: run its action if it is armed and this is the hit it waits for."""
    if not _armed:
        return
    armed = _armed.get(name)
    if armed is None:
        return
    armed.hits_left -= 1
    if armed.hits_left == 0:
        _act(name, armed.action)


def before_decision(name: str) -> None:
    """Pass a point of a store before it has written anything. Raises Unavailable if the point is to fail."""
    try:
        reach(name)
    except FailpointError as error:
        raise Unavailable(f"failpoint {name}") from error


def after_decision(name: str) -> None:
    """Pass a point of a store after its commit: the caller does not learn the outcome. Raises InDoubt if it fails."""
    try:
        reach(name)
    except FailpointError as error:
        raise InDoubt(f"failpoint {name}") from error


def _act(name: str, action: str) -> None:
    kind, _, argument = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "sleep":
        time.sleep(float(argument))
    else:
        raise FailpointError(name)
