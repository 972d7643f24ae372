"""Values that come as text, in every transport: one rule for whole numbers and for moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,39})", re.ASCII)
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII | re.IGNORECASE,
)


def whole_number(value: object) -> int | None:
    """The number of an int, or of text of digits without leading zeros; None of anything else, a bool among it."""
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value) else None
    return value if type(value) is int else None


def moment(value: object) -> datetime | None:
    """The moment in UTC of text as RFC 3339 has it, with an offset; None of anything else."""
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):  # no such day, or one outside the years of UTC
        return None
