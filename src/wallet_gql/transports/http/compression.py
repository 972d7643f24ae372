"""Which answers are sent gzipped: long JSON that was only read, for clients that ask for it.

Whoever makes a browser send text that comes back, and sees how long the answer is, could guess a secret in it letter by
letter (BREACH). So no answer with a secret is compressed: not those of operations that change something, among them all
that tell a token or a webhook's secret, and no answer in which a resolver has noted one (`RequestRecord.has_secret`).
Streams are never compressed: their events must not wait for one another.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Final

from starlette.types import Message

from ..catalogue.operations import OPERATIONS
from .record import RequestRecord

LENGTH_MIN: Final = 1_400
"""Shorter answers fit into one packet anyway, in bytes."""

ACCEPT_MAX: Final = 200
"""The longest `Accept-Encoding` that is read, in characters: the answer for it is remembered."""

_LEVEL: Final = 3
"""Of zlib. A page of 50 entries, 21 kB, becomes 3.3 kB in 0.17 ms; with the default of 6, 3.1 kB in 0.25 ms."""

_GZIP: Final = zlib.MAX_WBITS | 16
_TYPES: Final = (b"application/json", b"application/graphql-response+json")
_CODING: Final = ((b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding"))


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client with this `Accept-Encoding` accepts gzip. One that is too long counts as none.

    A part of it would not do: the rest may refuse what the part accepts.
    """
    return len(accept_encoding) <= ACCEPT_MAX and _accepts_gzip(accept_encoding)


@lru_cache(maxsize=256)
def _accepts_gzip(accept_encoding: str) -> bool:
    wanted = {}
    for part in accept_encoding.lower().split(","):
        name, _, weight = part.partition(";")
        wanted[name.strip()] = weight.replace(" ", "")
    weight = wanted.get("gzip", wanted.get("*", "q=0"))
    return not weight or weight.removeprefix("q=").strip("0.") != ""


def compressed(head: Message, body: Message, record: RequestRecord) -> tuple[Message, Message]:
    """The head and the first body of an answer, as they are to be sent."""
    plain = body.get("body", b"")
    if len(plain) < LENGTH_MIN or body.get("more_body", False) or not _may_be(head, record):
        return head, body
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    packed = packer.compress(plain) + packer.flush()
    kept = [(name, value) for name, value in head["headers"] if name != b"content-length"]
    headers = [*kept, (b"content-length", b"%d" % len(packed)), *_CODING]
    return {**head, "headers": headers}, {**body, "body": packed}


def is_json(head: Message) -> bool:
    """Whether an answer may be compressed by its type. The heads of others, such as streams, wait for nothing."""
    return any(name == b"content-type" and value.startswith(_TYPES) for name, value in head["headers"])


def _may_be(head: Message, record: RequestRecord) -> bool:
    """Whether it is JSON without a secret, and not encoded yet."""
    if b"content-encoding" in dict(head["headers"]):
        return False
    return not record.has_secret and all(OPERATIONS[verb].reads for verb in record.known)
