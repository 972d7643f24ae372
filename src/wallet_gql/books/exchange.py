"""Moves a whole ledger between stores: export to JSON lines, import, and a digest to compare them.

An export is a header line, one line for each record, and a trailer with counts and digest. Clearing entries are left
out, because they depend on the number of nodes; the importing store builds its own. Receipts are included, so old keys
replay after the move. The digest does not depend on the order of records, the store, or the number of nodes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ..domain.codec import FORMAT, KINDS, decode, encode
from ..domain.errors import ConfigurationError, InvalidInput
from ..domain.model import Entry, PendingCredit, Record, Transfer
from ..records import read, remove
from ..storage import SCAN_KINDS, SCAN_MAX, JournalItem, ScanItem, Store

PRODUCT: Final = "wallet-gql"
UNFINISHED: Final = Record("import", "unfinished", slot=0, owner="import", version=1)
"""The mark of an import that is under way: the first item that it writes, removed after the last."""

_CHUNK: Final = 500
_MODULUS: Final = 2**256


@dataclass(slots=True)
class Digest:
    """The sum, modulo 2^256, of the SHA-256 of every record: equal for equal sets of records, in any order.

    It detects damage and missing records, but not a forgery by somebody who can write the file.
    """

    value: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, plain: dict[str, Any]) -> None:
        """Add one record."""
        text = json.dumps([kind, plain], sort_keys=True, separators=(",", ":"))
        self.value = (self.value + int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")) % _MODULUS
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def add_line(self, kind: str, plain: dict[str, Any]) -> None:
        """Add one line of an export. A journal line has a transfer (unless it is a copy), entries, a pending credit."""
        if kind != "journal":
            self.add(kind, plain)
            return
        if not plain["copy"]:
            self.add("transfer", plain["transfer"])
        for entry in plain["entries"]:
            self.add("entry", entry)
        for credit in plain.get("pending", ()):
            self.add("pending_credit", credit)

    @property
    def text(self) -> str:
        """The digest as 64 hex digits."""
        return f"{self.value:064x}"


def _to_line(item: ScanItem) -> tuple[str, dict[str, Any]]:
    if isinstance(item, JournalItem):
        entries = [encode(entry) for entry in item.entries]
        plain = {"transfer": encode(item.transfer), "entries": entries, "copy": item.is_copy}
        pending = {"pending": [encode(credit) for credit in item.pending]} if item.pending else {}
        return "journal", {**plain, **pending}
    return type(item).__name__.lower(), encode(item)


def _from_line(kind: str, plain: dict[str, Any]) -> ScanItem:
    try:
        return _decoded(kind, plain)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput("export", f"a {kind} cannot be read: {error!r}") from error


def _decoded(kind: str, plain: dict[str, Any]) -> ScanItem:
    if kind == "journal":
        entries = tuple(decode(Entry, entry) for entry in plain["entries"])
        pending = tuple(decode(PendingCredit, credit) for credit in plain.get("pending", ()))
        return JournalItem("", decode(Transfer, plain["transfer"]), entries, (), pending)
    item: ScanItem = decode(KINDS[kind], plain)
    return item


async def _lines(store: Store) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    for kind in SCAN_KINDS:
        after: str | None = None
        while True:
            page = await store.scan(kind, after, SCAN_MAX)
            for item in page.items:
                yield _to_line(item)
            after = page.after
            if after is None:
                break


async def digest_of(store: Store) -> Digest:
    """The digest of a whole store, taken while no commit runs. Raises Contended if the gate cannot be had."""
    digest = Digest()
    async with store.gate():
        async for kind, plain in _lines(store):
            digest.add_line(kind, plain)
    return digest


async def export_lines(store: Store) -> AsyncIterator[str]:
    """A whole ledger as JSON lines, at one moment: all writers wait meanwhile.

    Raises:
        Contended: the gate cannot be had.
    """
    yield json.dumps({"product": PRODUCT, "format": FORMAT})
    digest = Digest()
    async with store.gate():
        async for kind, plain in _lines(store):
            digest.add_line(kind, plain)
            yield json.dumps({"kind": kind, "value": plain}, separators=(",", ":"))
    yield json.dumps({"digest": digest.text, "counts": digest.counts})


def read_lines(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of an export, one by one; at the end the digest is compared with the trailer.

    Raises:
        InvalidInput: it is not an export, has another format, or is damaged or incomplete.
    """
    digest = Digest()
    for number, line in enumerate(lines, start=1):
        plain = _parse(line, number)
        if number == 1:
            _check_header(plain)
        elif "digest" in plain:
            if plain["digest"] != digest.text:
                raise InvalidInput("export", f"line {number}: the digest differs: the file was changed; export again")
            return
        else:
            kind, value = plain.get("kind"), plain.get("value")
            if kind not in SCAN_KINDS or not isinstance(value, dict):
                raise InvalidInput("export", f"line {number}: not a record of format {FORMAT}")
            try:
                digest.add_line(kind, value)
            except (KeyError, TypeError) as error:
                raise InvalidInput("export", f"line {number}: a {kind} lacks {error}") from error
            yield kind, value
    raise InvalidInput("export", "it ends before its last line: the file was cut short; export again")


async def check_finished(store: Store) -> None:
    """Refuse a ledger that is half imported: receipts are missing, so a repeated request would pay again.

    Raises:
        ConfigurationError: an import into the store was not finished.
        Unavailable.
    """
    if await read(store, UNFINISHED.key) is not None:
        raise ConfigurationError("an import of this ledger was not finished: empty this database and import again")


async def import_lines(
    store: Store, lines: Callable[[], Iterable[str]], progress: Callable[[int], None] = lambda _: None
) -> Digest:
    """Fill an empty store from an export. The whole file is checked before anything is written.

    If it does not come to its end, `check_finished` refuses the store from then on.

    `lines` returns all lines of the file at each call; `progress` is called with the number of records imported.

    Raises:
        InvalidInput: the file is not a valid export, or the store is not empty.
        ConfigurationError: as `check_finished`.
        InvariantViolated: records contradict one another; start again with a fresh store.
    """
    for _ in read_lines(lines()):
        pass
    await check_finished(store)
    await _check_empty(store)
    await store.load_raw([UNFINISHED])
    chunk: list[ScanItem] = []
    count = 0
    for kind_name, value in read_lines(lines()):
        chunk.append(_from_line(kind_name, value))
        if len(chunk) == _CHUNK:
            await store.load_raw(chunk)
            count += len(chunk)
            progress(count)
            chunk = []
    await store.load_raw(chunk)
    progress(count + len(chunk))
    await remove(store, UNFINISHED.key, lambda _: True)
    return await digest_of(store)


async def _check_empty(store: Store) -> None:
    for kind in SCAN_KINDS:
        after: str | None = None
        while True:  # a scan goes node by node: an empty page is not the end
            page = await store.scan(kind, after, 1)
            if page.items:
                raise InvalidInput("import", "the store is not empty; import into a fresh one")
            after = page.after
            if after is None:
                break


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        plain = json.loads(line)
    except ValueError:
        plain = None
    if not isinstance(plain, dict):
        raise InvalidInput("export", f"line {number} is no JSON object")
    return plain


def _check_header(plain: dict[str, Any]) -> None:
    if plain.get("product") != PRODUCT:
        raise InvalidInput("export", "the first line does not say that this is a wallet-gql export")
    if plain.get("format") != FORMAT:
        raise InvalidInput("export", f"it has format {plain.get('format')}, this program reads format {FORMAT}")
