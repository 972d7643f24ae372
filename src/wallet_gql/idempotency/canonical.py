"""JSON text that is the same for equal values, for ever: fingerprints are taken over it, and receipts keep it.

The text is what `json.dumps(value, sort_keys=True, separators=(",", ":"))` makes: every character beyond printable
ASCII escaped, keys in order, no spaces. orjson makes the same text several times as fast, unless something has to be
escaped or a number passes 64 bits; then the standard library does.
"""

from __future__ import annotations

import json
from typing import Final

import orjson

_slowly: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""What the standard library refuses is refused."""


def canonical(value: object) -> str:
    """The canonical text of plain JSON data without floats. Raises TypeError if it is something else."""
    try:
        made = orjson.dumps(value, option=_OPTIONS)
    except TypeError:  # too large a number, half a surrogate pair, or no JSON at all
        return _slowly(value)
    if made.isascii() and b"\\" not in made and b"\x7f" not in made:
        return made.decode()
    return _slowly(value)
