"""What HTTP itself and the frames of both APIs tell people when they refuse a request, before any verb runs.

The words name values in braces. Every language of the wallet has all of them, as those of `domain.errors.reasons`.
"""

from __future__ import annotations

from typing import Final

from ...domain.words import Reason

HOST: Final = Reason("HOST", "the request must have one Host header, with a name or an address")
OTHER_HOST: Final = Reason("OTHER_HOST", "this server is not for that host; see WALLET_ALLOWED_HOSTS")
OTHER_SITE: Final = Reason(
    "OTHER_SITE",
    "the request comes from another site, or does not say from where; send it from the wallet's own origin or one of "
    "WALLET_ALLOWED_ORIGINS, or use a bearer token",
)
NO_PATH: Final = Reason("NO_PATH", "there is nothing at this path; the API is at /graphql and /v1")
NO_STRIPE: Final = Reason("NO_STRIPE", "this wallet takes no events from Stripe")
NO_EVENT: Final = Reason("NO_EVENT", "this is no event of Stripe's: {error}")
METHOD: Final = Reason("METHOD", "use one of the methods that `Allow` names")
ONLY_BY_POST: Final = Reason("ONLY_BY_POST", "only queries can be sent with GET; send mutations with POST")
ACCEPT: Final = Reason("ACCEPT", "the answer can be one of: {offered}")
ACCEPT_STREAM: Final = Reason(
    "ACCEPT_STREAM", "a subscription is answered as a stream: accept {offered}, or use a WebSocket"
)
BODY_TYPE: Final = Reason("BODY_TYPE", "send the body as {wanted} in UTF-8")
BODY_SIZE: Final = Reason("BODY_SIZE", "the body is larger than {most} bytes")
BODY_JSON: Final = Reason("BODY_JSON", "this is not valid JSON: {error}")
BODY_OBJECT: Final = Reason("BODY_OBJECT", "send a JSON object")
KEY_UNKNOWN: Final = Reason(
    "KEY_UNKNOWN",
    "nothing is known of this key, which does not prove that nothing happened or will happen; to be certain, send the "
    "first request again with the same key",
)
OPENING: Final = Reason("OPENING", "the wallet waits for its store; nothing was done, so send the same request again")
NOT_WRITABLE: Final = Reason("NOT_WRITABLE", "the store cannot write now")
STOPPING: Final = Reason("STOPPING", "the server is being stopped")
OUR_BUG: Final = Reason("OUR_BUG", "something went wrong on our side; the request id helps us find it")

TEXTS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Reason))
"""All of them, in the order above."""
