"""Who is who: sign-up, log-in, sessions, and what became of them. Everything here is `Record`s; no money is touched.

`names` makes names unique, `passwords` hashes, `throttle` counts failures, `events` tells users what happened;
`access` puts them together.
"""

from __future__ import annotations

from .access import SEEN_EVERY, Identity, LoggedIn
from .passwords import Passwords

__all__ = ["SEEN_EVERY", "Identity", "LoggedIn", "Passwords"]
