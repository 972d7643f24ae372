"""Users and their sessions: sign-up, log-in, security events. Everything is stored as `Record`s; no money is touched.

`names` makes names unique, `passwords` hashes, `throttle` counts failures, `events` stores security events; `access`
puts them together. `resets` is for operators.
"""

from __future__ import annotations

from .access import SEEN_EVERY, Identity, LoggedIn
from .passwords import Passwords

__all__ = ["SEEN_EVERY", "Identity", "LoggedIn", "Passwords"]
