"""After `add_a_record_kind.patch`: the record is kept, changed and refused, in memory and in a file."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from datetime import UTC, datetime
from importlib import import_module

import pytest

from wallet_gql.backends import open_store
from wallet_gql.domain.errors import InvalidInput
from wallet_gql.domain.ids import make_user_id
from wallet_gql.records import read


async def use(url: str) -> None:
    """Write it twice, read it, and send what is too long."""
    notes, verbs = import_module("wallet_gql.domain.notes"), import_module("wallet_gql.verbs.notes")
    owner = make_user_id(int(datetime.now(UTC).timestamp() * 1000), secrets.randbits(62))
    async with open_store(url) as store:
        assert await verbs.note_of(store, owner) is None
        await asyncio.gather(*(verbs.write_note(store, owner, f"text {n}") for n in range(5)))
        await verbs.write_note(store, owner, "the last")
        assert await verbs.note_of(store, owner) == notes.Note(owner, "the last")
        stored = await read(store, notes.note_key(owner))
        assert stored is not None
        assert stored.version == 6
        with pytest.raises(InvalidInput, match="text"):
            await verbs.write_note(store, owner, "x" * (notes.NOTE_MAX + 1))


def main() -> None:
    """Both stores that need no server."""
    with tempfile.TemporaryDirectory() as folder:
        for url in ("memory://?nodes=3", f"sqlite:///{folder}/wallet.db"):
            asyncio.run(use(url))


if __name__ == "__main__":
    main()
