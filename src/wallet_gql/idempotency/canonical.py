"""Canonical JSON text: always the same for equal values. Fingerprints are computed from it, and receipts store it.

The text is that of `json.dumps(value, sort_keys=True, separators=(",", ":"))`: characters beyond printable ASCII are
escaped, keys are sorted, and there are no spaces. orjson produces the same text several times as fast. If a character
must be escaped or a number exceeds 64 bits, the standard library does it.
"""

from __future__ import annotations

import json
from typing import Final

import orjson

_slowly: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""orjson must refuse the types that the standard library refuses."""


def canonical(value: object) -> str:
    """The canonical text of plain JSON data without floats. Raises TypeError if it is something else."""
    try:
        made = orjson.dumps(value, option=_OPTIONS)
    except TypeError:  # a number that is too large, an unpaired surrogate, or not JSON at all
        return _slowly(value)
    if made.isascii() and b"\\" not in made and b"\x7f" not in made:
        return made.decode()
    return _slowly(value)
