"""All errors of the wallet.

There are four kinds of answer. `Rejected`: no money moved, and a new attempt needs a new key. `Unavailable`: nothing
changed, send the same again with the same key. `InDoubt`: unknown, ask again with the same key. `Unauthenticated`: log
in, then send the same again. `docs/errors.md` lists all classes.

Every error has a stable `code`, typed values in `fields`, and a message that says what to do next. Everything about an
error stands in its class; the statuses of HTTP, the types of both APIs and the docs are made from it. When the store
cannot do something, clients get the same words whatever the cause; the cause is the error's `detail`, for the log. A
refusal is stored in a receipt as `(code, fields)` and comes back through `restore`.
"""

from .base import *  # noqa: F403 - every class has this address; so a new one is written in one place
from .ledger import *  # noqa: F403 - the same
from .parties import *  # noqa: F403 - the same
from .payments import *  # noqa: F403 - the same
from .system import *  # noqa: F403 - the same
