"""What both clients do, without sending anything: what a call is, when to send it again, and how events are read."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import quote

from .models import ViewerEvent

T = TypeVar("T")

EVENTS_PATH: Final = "/v1/viewer/events"
SILENCE_SECONDS: Final = 30.0
"""How long a stream may be silent. The wallet sends something every 12 seconds."""

_OTHERS: Final = 300
_OURS: Final = 500


def new_key() -> str:
    """A new idempotency key."""
    return str(uuid.uuid4())


def segment(text: str) -> str:
    """A part of a path, whatever stands in it."""
    return quote(text, safe="")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, which is answered with a `T`. Whoever runs it again sends the same key: it is one intent."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    key: str | None = None
    is_safe: bool = False
    """Whether it may be sent again although nobody knows what became of it: it has a key, or changes nothing twice."""

    @property
    def headers(self) -> dict[str, str]:
        """Its own headers. The key is in quotes: so it may have any character that a key may have."""
        return {} if self.key is None else {"Idempotency-Key": json.dumps(self.key, ensure_ascii=True)}

    @property
    def params(self) -> dict[str, str | int | Sequence[str]]:
        """The parameters that are given."""
        return {name: value for name, value in self.query.items() if value is not None and value != ()}


def following(call: Call[T], page: T) -> Call[T] | None:
    """The call for the page behind this one; None at the end."""
    after = cast("Mapping[str, Any]", page)["next"]
    return None if after is None else replace(call, query={**call.query, "after": after})


@dataclass(frozen=True)
class Answer:
    """An answer as it came; the names of the headers in small letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Problem(Exception):
    """The wallet said no, or not now. `code` is stable; `values` has what belongs to it, such as `availableMinor`."""

    def __init__(self, status: int, told: Mapping[str, Any], retry_after: float = 0.0) -> None:
        super().__init__(f"{told['code']}: {told['detail']}")
        self.status = status
        self.code = str(told["code"])
        self.detail = str(told["detail"])
        self.retryable = bool(told["retryable"])
        """Whether the same call may succeed later."""
        self.retry_after = retry_after
        """After how many seconds."""
        self.values = dict(told)


class NoAnswer(Exception):
    """Nobody knows what became of the call. Run the same call again, never a new one."""


@dataclass(frozen=True)
class Retries:
    """How often a call is sent, and how long to wait before the second time; the wait doubles, with some chance."""

    most: int = 5
    first_seconds: float = 0.5
    longest_seconds: float = 30.0

    def wait(self, failures: int, at_least: float = 0.0) -> float:
        """How long to wait after so many failures, in seconds."""
        longest = min(self.first_seconds * 2 ** (failures - 1), self.longest_seconds)
        return max(at_least, random.uniform(longest / 2, longest))  # noqa: S311 - spreads retries, keeps no secret


def exchange(call: Call[T], retries: Retries) -> Generator[float, Answer | None, T]:
    """Run a call: yields how many seconds to wait before sending it, gets the answer, or None if there was none.

    Raises:
        Problem: the wallet refused, or was not able to, however often it was asked. NoAnswer: nobody knows.
    """
    wait, failures = 0.0, 0
    while True:
        answer = yield wait
        failure = NoAnswer(f"{call.method} {call.path}") if answer is None else failure_of(answer)
        if failure is None:
            assert answer is not None
            return cast("T", _content(answer))
        failures += 1
        may_repeat = failure.retryable if isinstance(failure, Problem) else call.is_safe
        if failures >= retries.most or not may_repeat:
            raise failure
        wait = retries.wait(failures, failure.retry_after if isinstance(failure, Problem) else 0.0)


def failure_of(answer: Answer) -> Problem | NoAnswer | None:
    """What is wrong with an answer; None if nothing is. A redirection, or a proxy's error, is not the wallet's."""
    if answer.status < _OTHERS:
        return None
    try:
        after = answer.headers.get("retry-after", "")
        return Problem(answer.status, json.loads(answer.content), float(after) if after.isdigit() else 0.0)
    except (ValueError, KeyError, TypeError):
        told = {"code": "NO_PROBLEM", "detail": "the answer is not the wallet's", "retryable": False}
        return NoAnswer(f"status {answer.status}") if answer.status >= _OURS else Problem(answer.status, told)


def _content(answer: Answer) -> Any:
    if not answer.content:
        return None
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return json.loads(answer.content) if is_json else answer.content.decode()


class EventReader:
    """Reads the lines of a stream of events, remembers where it stands, and says when to connect again."""

    def __init__(self, after: str | None, retries: Retries) -> None:
        self._cursor = after
        self._retries = retries
        self._failures = 0
        self._fields: dict[str, str] = {}

    @property
    def call(self) -> Call[None]:
        """The request that goes on behind the last event."""
        return Call("GET", EVENTS_PATH, {"after": self._cursor}, is_safe=True)

    def take(self, line: str) -> ViewerEvent | None:
        """The event that ends with this line, if one does. Raises Problem: the wallet says why it ends the stream."""
        name, _, value = line.partition(":")
        if line:
            if name:
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        told = json.loads(fields["data"])
        if fields.get("event") == "problem":
            raise Problem(told["status"], told, float(told.get("retryAfterSeconds", 0)))
        self._failures = 0
        self._cursor = told["cursor"]
        return cast("ViewerEvent", told)

    def lost(self, failure: Problem | NoAnswer | None) -> float:
        """How long to wait before connecting again. Raises the failure, or NoAnswer, if it is of no use to try."""
        self._fields = {}
        self._failures += 1
        if isinstance(failure, Problem) and not failure.retryable:
            raise failure
        if self._failures >= self._retries.most:
            raise failure or NoAnswer("the stream of events was lost too often")
        return self._retries.wait(self._failures, failure.retry_after if isinstance(failure, Problem) else 0.0)
