"""The stand-in for Stripe as the tests use it: with simulated failures of Stripe and of the network.

```python
with FakeStripe() as fake:
    settings = load_settings(stripe_api_key=fake.key, stripe_api_base=fake.url, …)
    fake.state.pay(intent_id)
    raw, header = fake.signed(fake.state.events[-1])
```

`faults` says what happens to the next requests, in order:

| fault | what happens |
|---|---|
| `ok` | nothing unusual |
| `lose_request` | the connection ends before anything is done |
| `lose_answer` | it is done, and the connection ends without an answer |
| `error` | 500, and nothing is done; under a key the 500 is given again |
| `busy` | 429, and nothing is done |
| `conflict` | 409, as if the same key were in use; nothing is done |
| `refuse` | 400, unless the key has an answer already; nothing is done, and it is not given again |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from ..integrations.stripe_stand_in.server import StandIn
from ..integrations.stripe_stand_in.state import Body, StripeState

FAULTS: Final = ("ok", "lose_request", "lose_answer", "error", "busy", "conflict", "refuse")


class FakeStripe(StandIn):
    """The stand-in, whose clock stands still unless a test sets `state.now`."""

    def __init__(self, secrets: Sequence[str] = ("whsec_of_the_tests",)) -> None:
        super().__init__(secrets)
        self.faults: deque[str] = deque()
        self.requests: list[tuple[str, str, Body]] = []
        """The requests so far: method, path, parameters."""
        self.versions: set[str | None] = set()
        self._fault = "ok"

    def now(self) -> int:
        """The state's own time."""
        return self.state.now

    def reset(self) -> None:
        """Start again with an empty platform at the same address."""
        with self.lock:
            self.state = StripeState()
            self.faults.clear()
            self.requests.clear()
            self._kept.clear()

    def forget_keys(self) -> None:
        """Forget all idempotency keys, as Stripe does after a day."""
        with self.lock:
            self._kept.clear()

    def handle(self, method: str, path: str, params: Body, headers: Any) -> tuple[int, Body] | None:
        """Answer as the next fault wants."""
        with self.lock:
            self._fault = fault = self.faults.popleft() if self.faults else "ok"
            self.requests.append((method, path, params))
            self.versions.add(headers.get("Stripe-Version"))
            if fault == "lose_request":
                return None
            if fault in ("busy", "conflict"):
                status = 429 if fault == "busy" else 409
                return status, {"error": {"type": "api_error", "code": fault, "message": fault}}
            answer = super().handle(method, path, params, headers)
            return None if fault == "lose_answer" else answer

    def _answer(self, method: str, path: str, params: Body, account: str) -> tuple[int, Body, bool]:
        if self._fault in _FAILING:
            return *_FAILING[self._fault], self._fault == "error"
        return super()._answer(method, path, params, account)


_FAILING: Final[dict[str, tuple[int, Body]]] = {
    "error": (500, {"error": {"type": "api_error", "message": "An unknown error occurred"}}),
    "refuse": (400, {"error": {"type": "invalid_request_error", "code": "account_invalid", "message": "not now"}}),
}
