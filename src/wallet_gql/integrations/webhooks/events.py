"""Events for merchants: one for each entry; how they are written, signed and sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ... import __version__, traces
from ...domain.ids import AccountId
from ...domain.model import TransferKind
from ...storage import HistoryLine
from .targets import NotLookedUp, TargetRefused, resolve

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS: Final = 5.0
SEND_SECONDS: Final = 15.0
"""How long one request may take in all, after its host was looked up."""

_NOUNS: Final = {TransferKind.CAPTURE: "payment"}


class SendFailed(Exception):
    """There was no answer. The message says why, without secrets."""


class NotSent(SendFailed):
    """The event was not sent, for a reason of ours; it does not count as a failure of the merchant's server."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: `id` is the same however often it is sent; `body` is the JSON text that is signed."""

    id: str
    account_id: AccountId
    sequence: int
    transfer_id: str
    body: str


def event_of(line: HistoryLine) -> Event:
    """The event of an entry, such as `payment.received`; the same entry always gives the same bytes."""
    entry, transfer = line.entry, line.transfer
    noun = _NOUNS.get(transfer.kind, transfer.kind.value)
    told: dict[str, Any] = {
        "type": f"{noun}.{'received' if entry.amount_minor > 0 else 'sent'}",
        "timestamp": entry.at.isoformat(),
        "data": {
            "accountId": entry.account_id,
            "sequence": entry.sequence,
            "transferId": transfer.id,
            "amountMinor": str(entry.amount_minor),
            "balanceMinor": str(entry.balance_minor),
            "grossMinor": str(transfer.amount_minor),
            "feeMinor": str(transfer.fee_minor),
            "currency": transfer.currency,
            "reference": transfer.reference,
            "holdId": transfer.hold_id,
            "reversesId": transfer.reverses,
        },
    }
    name = f"evt_{entry.account_id.removeprefix('acc_')}_{entry.sequence}"
    body = json.dumps(told, separators=(",", ":"))
    return Event(name, entry.account_id, entry.sequence, transfer.id, body)


def headers_of(event: Event, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature for each valid secret."""
    from standardwebhooks import Webhook  # noqa: PLC0415 - of an extra

    signatures = (Webhook(secret).sign(event.id, at, event.body) for secret in secrets)
    return {
        "webhook-id": event.id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
        "user-agent": f"wallet-gql/{__version__}",
    }


class HttpSender:
    """Sends events over HTTP: to checked addresses, without following redirects, without reading the answer's body."""

    def __init__(self, *, allow_private: bool = False, verify: Any = True) -> None:
        """`allow_private` also allows http and private addresses. `verify` is an SSL context, for tests."""
        self.allow_private = allow_private
        self._verify = verify
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, url: str, event: Event, secrets: Sequence[str], turn: int) -> int:
        """Send one event; returns the status. Raises SendFailed, NotSent."""
        import httpx  # noqa: PLC0415 - of an extra

        try:
            target = await resolve(url, allow_private=self.allow_private, turn=turn)
            async with asyncio.timeout(SEND_SECONDS):
                headers = {**headers_of(event, secrets, datetime.now(UTC)), "host": target.host}
                extensions = {"sni_hostname": target.name}
                client = self._connected()
                request = client.build_request(
                    "POST", target.url, content=event.body.encode(), headers=headers, extensions=extensions
                )
                with traces.call("webhook"):
                    answer = await client.send(request, stream=True)
                    await answer.aclose()
                return answer.status_code
        except NotLookedUp as error:
            raise NotSent(str(error)) from error
        except TargetRefused as error:
            raise SendFailed(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise SendFailed(f"no answer: {type(error).__name__}") from error

    def _connected(self) -> httpx.AsyncClient:
        """A client for one request. Connections are not reused: another host name may have the same address.

        Cookies are not kept either: they would belong to the address, and so be sent to other merchants there.
        """
        import httpx  # noqa: PLC0415 - of an extra

        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=self._verify,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(SEND_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        return self._client

    async def aclose(self) -> None:
        """Close open connections."""
        if self._client is not None:
            await self._client.aclose()


def can_send() -> bool:
    """Whether the libraries that send webhooks are installed (the extra `stripe`)."""
    return find_spec("httpx") is not None and find_spec("standardwebhooks") is not None
