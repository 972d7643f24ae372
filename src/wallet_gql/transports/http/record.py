"""What is known of a request while it is answered: for its log lines and for the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from ... import traces
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
    places: Mapping[str, str] = field(default_factory=dict)
    """What it does, by the keys in GraphQL's response; a client chooses those."""
    user_id: str = ""
    """Whose session it has, once that is known."""
    is_stream: bool = False
    """Whether it is a subscription, which lasts as long as its client listens."""
    outcome: str = ""
    """The first failure's code, or `OK`, once it has ended."""
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    """What the client sent in the head, by lower-case names."""
    language: str = ""
    """The language in which a message was told; empty if there was none."""
    has_secret: bool = False
    """Whether the answer has a secret, so that it must not be compressed."""
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    """The verb of each failure so far, by its place and its code."""

    @property
    def known(self) -> list[str]:
        """What it does, as far as the catalogue knows it."""
        return [verb for verb in self.verbs if verb in NAMES]

    def fail(self, code: str, *, verb: str = "", place: str = "") -> None:
        """One of its operations is answered with an error, which counts at once: a stream may last for days.

        `verb` or `place` says which operation, by default the first. The same code counts once for each, however many
        fields of it or events of a stream fail.
        """
        verb = self.places.get(place, verb)
        verb = verb if verb in NAMES else next(iter(self.known), NO_VERB)
        key = (place or verb, code)
        if key not in self.failures:
            self.failures[key] = verb
            ANSWERS.add(self.api, verb, code)

    def end(self, seconds: float | None) -> None:
        """It is answered, after this time if that says anything. Counts each operation that has not failed."""
        verbs = self.known or [NO_VERB]
        if seconds is not None and not self.is_stream:
            ANSWER_SECONDS.note(seconds, self.api, verbs[0])
        if not self.failures:
            self.outcome = OK
            for verb in verbs:
                ANSWERS.add(self.api, verb, OK)
            return
        self.outcome = next(code for _, code in self.failures)
        failed = {place: verb for (place, _), verb in self.failures.items()}
        for verb in (Counter(verbs) - Counter(failed.values())).elements():
            ANSWERS.add(self.api, verb, OK)


RECORD: Final[ContextVar[RequestRecord | None]] = ContextVar("wallet_request", default=None)


@contextmanager
def traced(headers: Mapping[str, str]) -> Iterator[None]:
    """A span around what makes its own record, which says what the span was."""
    with traces.operation(headers) as span:
        RECORD.set(None)
        try:
            yield
        finally:
            record = RECORD.get()
            if span is not None and record is not None:
                verbs = ",".join(dict.fromkeys(record.known))
                span.update_name(verbs or record.api)
                span.set_attributes({"wallet.api": record.api, "wallet.outcome": record.outcome})
                if record.outcome == INTERNAL.name:
                    traces.fail(span)


def current() -> RequestRecord:
    """The record of the request being answered; outside of one, a record that nobody reads."""
    return RECORD.get() or RequestRecord()
