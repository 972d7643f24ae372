"""Receiving pending credits: bounds that every backend keeps."""

from __future__ import annotations

from typing import Final

RECEIVE_MAX: Final = 2_000
"""The most pending credits that one commit receives: a long backlog must not make one command pay for all of it."""
