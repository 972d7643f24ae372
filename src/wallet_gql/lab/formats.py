"""A history as files: JSON lines for programs, EDN for Elle, and JSON lines for the Porcupine checker in `examples`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from .history import Call, History

NEVER: Final = 2**62
"""The end of a call without an answer, for Porcupine: it may take effect at any time."""


def write_all(history: History, folder: Path, kind: str = "history") -> list[Path]:
    """Write the history in every format into the folder, which is made if need be; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{kind}-{history.backend}-{history.seed}"
    texts = {".jsonl": to_jsonl(history), ".edn": to_edn(history), ".porcupine.jsonl": to_porcupine(history)}
    written = []
    for suffix, lines in texts.items():
        written.append(folder / f"{name}{suffix}")
        written[-1].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return written


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def to_jsonl(history: History) -> Iterator[str]:
    """The run, then every call in the order of the answers, then the journal of every account."""
    whose = {"backend": history.backend, "seed": history.seed, "nemesis": history.nemesis}
    yield _line({**whose, "homes": history.homes, "opening": history.opening})
    for call in history.calls:
        seen = {name: [s.sequence, s.posted_minor, s.held_minor, s.open_minor] for name, s in call.seen.items()}
        values = {"process": call.process, "verb": call.verb, "sentAt": call.sent_at, "endedAt": call.ended_at}
        values |= {"outcome": call.outcome, "actor": call.actor, "key": call.key, "asked": call.asked}
        yield _line(values | {"told": call.told, "seen": seen, "page": call.page})
    for name in history.accounts:
        lines = [[e.sequence, e.transfer_id, e.amount_minor, e.balance_minor] for e in history.books.entries[name]]
        yield _line({"account": name, "entries": lines})


def to_edn(history: History) -> Iterator[str]:
    """List-append: a transfer appends its number to the lists of its two accounts, a read sees whole lists.

    Holds are left out, as they append nothing. Every operation has a process of its own, so that one without an answer
    (`:info`) ends its process.
    """
    books = history.books
    numbers = {transfer_id: number for number, transfer_id in enumerate(books.transfers, 1)}
    lists = {name: [numbers[entry.transfer_id] for entry in books.entries[name]] for name in history.accounts}
    places = {name: place for place, name in enumerate(history.accounts)}
    opening = "".join(f"[:append {places[name]} {n}]" for name in places for n in lists[name][: history.opening[name]])
    events = [(-1, 0, f":type :invoke, :value [{opening}]"), (-1, 0, f":type :ok, :value [{opening}]")]
    paid = {(transfer.actor, transfer.idempotency_key): transfer for transfer in books.transfers.values()}
    for process, call in enumerate(_joined(history), 1):
        transfer = paid.get((call.actor, call.key))
        if call.is_read:
            asked = " ".join(f"[:r {places[name]} nil]" for name in call.seen)
            told = " ".join(f"[:r {places[n]} {_list(lists[n][: s.sequence])}]" for n, s in call.seen.items())
        elif transfer is not None:
            legs = (transfer.debit_account_id, transfer.credit_account_id)
            asked = told = " ".join(f"[:append {places[name]} {numbers[transfer.id]}]" for name in legs)
        else:
            continue
        kind = "ok" if call.ended_at < NEVER else "info"
        events.append((call.sent_at, process, f":type :invoke, :value [{asked}]"))
        events.append((call.ended_at, process, f":type :{kind}, :value [{told}]"))
    events.sort(key=lambda event: event[0])
    for index, (at, whose, what) in enumerate(events):
        yield f"{{:index {index}, :time {max(at, 0)}, :process {whose}, :f :txn, {what}}}"


def _list(numbers: list[int]) -> str:
    return f"[{' '.join(map(str, numbers))}]"


def to_porcupine(history: History) -> Iterator[str]:
    """The opening balances, then one line an operation: what was asked by place of account, and what was answered.

    Repetitions of a key are joined: from the first request to the first answer. An unanswered operation may take effect
    at any time or not at all. Reads of pages and of some accounts give `null` for what they did not see.
    """
    places = {name: place for place, name in enumerate(history.accounts)}
    yield _line({"opening": [history.opening_minor(name) for name in places]})
    holds: dict[str, int] = {}
    for call in _joined(history):
        value: dict[str, Any] = {"client": call.process, "verb": call.verb, "outcome": call.outcome}
        value |= {"call": call.sent_at, "return": call.ended_at, "amount": call.asked.get("amount_minor", 0)}
        if call.is_read:
            seen = [call.seen.get(name) for name in places]
            value["balances"] = [None if s is None else s.posted_minor for s in seen]
        elif call.verb in ("transfer", "hold"):
            value |= {"from": places[call.asked["debit_account_id"]], "to": places[call.asked["credit_account_id"]]}
            if call.verb == "hold":
                value["hold"] = holds.setdefault(call.told.get("made", call.key), len(holds))
        else:
            value["hold"] = holds.setdefault(call.asked["hold"], len(holds))
        yield _line(value)


def _joined(history: History) -> Iterator[Call]:
    """Answered reads, and each key once with the outcome that its client learnt first."""
    answers: dict[tuple[str, str], Call] = {}
    sent: dict[tuple[str, str], int] = {}
    for call in history.calls:
        if call.is_read:
            if call.outcome == "ok":
                yield call
            continue
        name = (call.actor, call.key)
        sent[name] = min(sent.get(name, NEVER), call.sent_at)
        known = answers.get(name)
        if known is None or (known.outcome == "unknown" and call.outcome != "unknown"):
            answers[name] = call
    for name, call in answers.items():
        late = call.outcome == "unknown" or not call.told.get("credited", True)
        end = NEVER if late else call.ended_at
        yield Call(call.process, call.verb, sent[name], end, call.outcome, *name, call.asked, call.told)
