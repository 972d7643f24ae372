"""Merchants' webhook secrets as they are stored: encrypted if there are keys, else in clear.

The wallet signs with these secrets, so they cannot be hashed. A sealed secret is a Fernet token (AES-128-CBC with
HMAC-SHA-256) behind a prefix; a database, a backup or an export without the keys is of no use to whoever wants to forge
events.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from ...domain.errors import ConfigurationError
from ...settings import Settings
from .events import NotSent

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

PREFIX: Final = "sealed:"


class Sealer:
    """Seals with the first of its keys and opens with any. Without keys it leaves secrets in clear."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """`keys` are 32 bytes in URL-safe base64 each, as the settings have checked."""
        self._all = _fernet(keys) if keys else None
        self._first = _fernet(keys[:1]) if keys else None

    def seal(self, secret: str) -> str:
        """A secret as it is to be stored."""
        return secret if self._first is None else PREFIX + self._first.encrypt(secret.encode()).decode()

    def open(self, stored: str) -> str:
        """The secret. Raises NotSent: none of the keys opens it."""
        if not stored.startswith(PREFIX):
            return stored
        opened = _decrypted(self._all, stored)
        if opened is None:
            raise NotSent("no key of WALLET_SECRET_KEYS opens the merchant's secret; set the key that sealed it")
        return opened

    def reseal(self, stored: str) -> str:
        """The secret as it is to be stored today; unchanged if it is stored so. Raises NotSent."""
        is_sealed = stored.startswith(PREFIX)
        current = _decrypted(self._first, stored) is not None if is_sealed else self._first is None
        return stored if current else self.seal(self.open(stored))


def sealer_of(settings: Settings) -> Sealer:
    """The sealer with the keys of the settings."""
    return Sealer(settings.sealing_keys)


def check_library(settings: Settings) -> None:
    """Raise ConfigurationError if there are keys, and nothing that encrypts."""
    if settings.sealing_keys and find_spec("cryptography") is None:
        raise ConfigurationError("keys need the package cryptography: pip install 'wallet-gql[secrets]'")


def _fernet(keys: Sequence[str]) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - an extra that only this needs

    return MultiFernet([Fernet(key) for key in keys])


def _decrypted(fernet: MultiFernet | None, stored: str) -> str | None:
    if fernet is None:
        return None
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - as above

    try:
        return fernet.decrypt(stored.removeprefix(PREFIX).encode()).decode()
    except InvalidToken:
        return None
