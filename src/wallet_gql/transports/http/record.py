"""What is known of a request while it is answered: for its log lines and for the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from ...domain.errors import InDoubt
from ...metrics import ANSWER_SECONDS, ANSWERS
from ..catalogue.errors import INTERNAL
from ..catalogue.operations import NAMES, OPERATIONS

OK: Final = "OK"
"""The code of a success in metrics and logs."""

NO_VERB: Final = "-"
"""The verb of a request that names none of ours: a page, an invalid document, introspection."""

APIS: Final = ("graphql", "rest", "http")
"""`http` is everything that is neither of the others."""

for _api in APIS:
    ANSWERS.expect(_api, NO_VERB, INTERNAL.name)
    for _operation in OPERATIONS.values() if _api != "http" else ():
        ANSWERS.expect(_api, _operation.name, INTERNAL.name)
        if not _operation.reads:
            ANSWERS.expect(_api, _operation.name, InDoubt.code)


@dataclass(slots=True)
class RequestRecord:
    """One request, or one operation on a WebSocket."""

    api: str = "http"
    """One of `APIS`."""
    verbs: Sequence[str] = ()
    """What it does, one for each operation. Names that are not in the catalogue do not count."""
    user_id: str = ""
    """Whose session it has, once that is known."""
    is_stream: bool = False
    """Whether it is a subscription, which lasts as long as its client listens."""
    outcome: str = ""
    """The first failure's code, or `OK`, once it has ended."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """The verb and the code of each failure so far."""

    @property
    def known(self) -> list[str]:
        """What it does, as far as the catalogue knows it."""
        return [verb for verb in self.verbs if verb in NAMES]

    def fail(self, code: str, verb: str | None = None) -> None:
        """One of its operations, the first by default, is answered with an error."""
        known = verb if verb in NAMES else next(iter(self.known), NO_VERB)
        self.failures.append((known, code))

    def end(self, seconds: float | None) -> None:
        """It is answered, after this time if that says anything. Counts each of its operations."""
        verbs = self.known or [NO_VERB]
        if seconds is not None and not self.is_stream:
            ANSWER_SECONDS.note(seconds, self.api, verbs[0])
        self.outcome = OK
        if self.failures:
            self.outcome = self.failures[0][1]
            for verb, code in self.failures:
                ANSWERS.add(self.api, verb, code)
            verbs = list((Counter(verbs) - Counter(verb for verb, _ in self.failures)).elements())
        for verb in verbs:
            ANSWERS.add(self.api, verb, OK)


RECORD: Final[ContextVar[RequestRecord | None]] = ContextVar("wallet_request", default=None)


def current() -> RequestRecord:
    """The record of the request being answered; outside of one, a record that nobody reads."""
    return RECORD.get() or RequestRecord()
