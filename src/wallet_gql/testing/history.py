"""Histories that clients record while processes are killed, and the check that the ledger agrees with them.

A history has one JSON line before and one after each call: `invoke`, then `ok`, `refused` or `unknown`, with the time
of the machine's monotonic clock (`at`, nanoseconds; comparable between processes since the same boot). A call that was
cut off has only its `invoke`. `check` compares histories with the books of the store at rest, in linear time:

- an answered success is in the books once, with the id, accounts and amount of the answer;
- an answered refusal moved nothing, and stays a refusal;
- an unanswered call happened at most once;
- nothing is in the books that no client asked for;
- on each account, sequences agree with real time: if one call was answered before another was sent, its entry comes
  first. On the payee's account this holds only for answers with `credited`.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ..domain.model import Transfer
from .books import Books

NEVER: Final = 2**63


@dataclass(slots=True)
class Operation:
    """Everything that a history contains about one key of one actor.

    `oks` are (time in nanoseconds, what was made, whether it was a replay).
    """

    actor: str
    key: str
    asked: Mapping[str, Any]
    invoked_at: int
    attempts: int = 1
    oks: list[tuple[int, str, bool]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    unknowns: int = 0
    credited_at: int = NEVER
    """The time of the first success with `credited`; `NEVER` if there is none."""

    @property
    def answered(self) -> bool:
        """Whether the client knows the outcome."""
        return bool(self.oks or self.refusals)

    @property
    def answered_at(self) -> int:
        """The time of the first success; `NEVER` if there is none."""
        return min((at for at, _, _ in self.oks), default=NEVER)


Operations = dict[tuple[str, str], Operation]


class Recorder:
    """Appends lines to a history. A line is in the file when the call returns, and survives a kill of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        """Open the file, which several processes may share."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        os.close(self._file)

    def write(self, event: str, actor: str, key: str, **values: object) -> None:
        """Append one line: the event, its time, whose key, and what was asked or answered."""
        line = {"event": event, "at": time.monotonic_ns(), "actor": actor, "key": key, **values}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


def read_history(paths: Iterable[Path]) -> Operations:
    """Join the histories of several processes by key. An incomplete last line is ignored."""
    operations: Operations = {}
    for path in paths:
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                add_line(operations, json.loads(line))
    return operations


def add_line(operations: Operations, line: dict[str, Any]) -> None:
    """Add one line to the operations."""
    name = (line["actor"], line["key"])
    known = operations.get(name)
    if line["event"] == "invoke":
        asked = {k: v for k, v in line.items() if k not in ("event", "at", "actor", "key")}
        if known is None:
            operations[name] = Operation(*name, asked, line["at"])
        else:
            known.attempts += 1
            known.invoked_at = min(known.invoked_at, line["at"])
        return
    assert known is not None, f"an answer to {name}, which nobody asked"
    if line["event"] == "ok":
        known.oks.append((line["at"], line["made"], line["replayed"]))
        if line.get("credited", True):
            known.credited_at = min(known.credited_at, line["at"])
    elif line["event"] == "refused":
        known.refusals.append(line["code"])
    else:
        known.unknowns += 1


def check(operations: Operations, books: Books) -> list[str]:
    """All contradictions between the books and the histories, one line each; empty if they agree.

    The books themselves are checked by `books.faults`.
    """
    paid: dict[tuple[str, str], list[Transfer]] = {}
    for transfer in books.transfers.values():
        paid.setdefault((transfer.actor, transfer.idempotency_key), []).append(transfer)
    found = [f"{name} is in the books and nobody asked for it" for name in paid.keys() - operations.keys()]
    placed = _placed(books)
    for name, operation in operations.items():
        found += (f"{name}: {fault}" for fault in _answers(operation))
        if operation.asked["verb"] == "hold":
            found += (f"{name}: {fault}" for fault in _hold_effect(operation, placed.get(name), books))
        elif operation.asked["verb"] == "void":
            found += (f"{name}: {fault}" for fault in _void_effect(operation, books))
        else:
            found += (f"{name}: {fault}" for fault in _transfer_effect(operation, paid.get(name, [])))
    found += (f"hold {name} was placed {count} times" for name, count in Counter(placed.values()).items() if count > 1)
    found += (f"hold {name} has no key" for name in books.holds.keys() - set(placed.values()))
    return found + list(_order(operations, books))


def _placed(books: Books) -> dict[tuple[str, str], str]:
    """The hold that each receipt names, for keys that placed a hold."""
    placed: dict[tuple[str, str], str] = {}
    for receipt in books.receipts.values():
        kept = json.loads(receipt.outcome or "{}")
        if receipt.operation == "placeHold" and "ok" in kept:
            placed[receipt.actor, receipt.key] = kept["ok"]["hold"]["id"]
    return placed


def _answers(operation: Operation) -> Iterator[str]:
    if operation.oks and operation.refusals:
        yield f"answered as done and as refused ({operation.refusals[0]})"
    if len({made for _, made, _ in operation.oks}) > 1:
        yield f"answered with different results: {sorted({made for _, made, _ in operation.oks})}"
    if [replayed for _, _, replayed in operation.oks].count(False) > 1:
        yield "answered as new more than once"
    if len(set(operation.refusals)) > 1:
        yield f"refused in different words: {sorted(set(operation.refusals))}"


def _transfer_effect(operation: Operation, paid: list[Transfer]) -> Iterator[str]:
    if len(paid) > 1:
        yield f"paid {len(paid)} times"
    if operation.refusals and paid:
        yield f"was refused ({operation.refusals[0]}) and paid"
    if not operation.oks:
        return
    told = operation.oks[0][1]
    if [transfer.id for transfer in paid] != [told]:
        yield f"was answered with {told}, the books have {[transfer.id for transfer in paid] or 'nothing'}"
        return
    for name in ("debit_account_id", "credit_account_id", "amount_minor"):
        asked = operation.asked.get(name)
        if asked is not None and getattr(paid[0], name) != asked:
            yield f"asked for {name} {asked}, the books have {getattr(paid[0], name)}"


def _hold_effect(operation: Operation, placed: str | None, books: Books) -> Iterator[str]:
    if operation.refusals and placed:
        yield f"was refused ({operation.refusals[0]}) and placed {placed}"
    if not operation.oks:
        return
    told = operation.oks[0][1]
    hold = books.holds.get(told)
    if placed != told or hold is None:
        yield f"was answered with {told}, the books have {placed or 'nothing'}"
    elif hold.amount_minor != operation.asked["amount_minor"]:
        yield f"asked for {operation.asked['amount_minor']}, the books hold {hold.amount_minor}"


def _void_effect(operation: Operation, books: Books) -> Iterator[str]:
    hold = books.holds.get(operation.asked["hold"])
    if operation.oks and (hold is None or hold.state != "voided"):
        yield f"was answered as voided, the hold is {hold.state if hold else 'absent'}"


def _order(operations: Operations, books: Books) -> Iterator[str]:
    """Check each account backwards: a later entry must not have been answered before an earlier one was requested."""
    for account_id, entries in books.entries.items():
        earliest_answer, whose = NEVER, ""
        for entry in reversed(entries):
            transfer = books.transfers[entry.transfer_id]
            operation = operations.get((transfer.actor, transfer.idempotency_key))
            if operation is None:
                continue
            if earliest_answer < operation.invoked_at:
                yield f"{account_id}: {whose} was answered before {transfer.id} was asked, and comes after it"
            is_payee = entry.account_id == transfer.credit_account_id
            answered_at = operation.credited_at if is_payee else operation.answered_at
            if answered_at < earliest_answer:
                earliest_answer, whose = answered_at, transfer.id
