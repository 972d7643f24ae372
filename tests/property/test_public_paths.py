"""The public import paths, listed in one place. A module that moves keeps its path here."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

PUBLIC: Final[dict[str, tuple[str, ...]]] = {
    "wallet_gql": ("Ledger", "Posted", "Store", "To", "errors", "open_ledger"),
    "wallet_gql.backends": ("open_store", "schemes"),
    "wallet_gql.backends.kit": ("Command", "GroupStore", "KINDS", "LanePolicy", "NodeMap", "Wanted", "load_found"),
    "wallet_gql.backends.memory": ("MemoryStore",),
    "wallet_gql.domain.changes": (
        "Changes",
        "Decision",
        "Outcome",
        "ReadSet",
        "Scope",
        "Snapshot",
        "State",
        "decide_all",
    ),
    "wallet_gql.domain.errors": (
        "ConfigurationError",
        "Contended",
        "InDoubt",
        "Rejected",
        "Unavailable",
        "WalletError",
    ),
    "wallet_gql.domain.model": ("Account", "Entry", "Hold", "Receipt", "Record", "RecordKey", "Transfer"),
    "wallet_gql.failpoints": ("reach",),
    "wallet_gql.idempotency": ("Effects", "Guard", "Joined", "Settled", "Turn", "Unfinished"),
    "wallet_gql.idempotency.asgi": ("OPERATION", "Answer", "IdempotencyMiddleware", "turn_of"),
    "wallet_gql.records": ("change", "read"),
    "wallet_gql.storage": ("Capabilities", "Page", "PageRequest", "Recovered", "Store"),
    "wallet_gql.testing.conformance": ("CrashConformance", "MachineConformance", "StoreConformance"),
    "wallet_gql.testing.harness": ("Harness", "harness_for"),
    "wallet_gql.transports.cli": ("main",),
}
"""Module -> the names that docs, examples, entry points and the suite show."""

_SHOWN: Final = re.compile(r"^\s*from (wallet_gql[\w.]*) import ([\w, ]+)", re.MULTILINE)


@pytest.mark.parametrize(("module", "names"), PUBLIC.items(), ids=PUBLIC)
def test_a_public_path_is_there(module: str, names: tuple[str, ...]) -> None:
    """Every name can be imported from where the docs say."""
    found = import_module(module)
    assert [name for name in names if not hasattr(found, name)] == []


def shown() -> set[tuple[str, str]]:
    """What docs, examples and the guide's own backend import."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "backends").glob("*.md")]
    pages += [*(ROOT / "examples").rglob("*.py"), ROOT / "tests" / "integration" / "outside_backend.py"]
    pages += [*(ROOT / "src" / "wallet_gql" / "testing").glob("__init__.py")]
    found: set[tuple[str, str]] = set()
    for page in pages:
        for module, names in _SHOWN.findall(page.read_text(encoding="utf-8")):
            found |= {(module, name.split(" as ")[0].strip()) for name in names.split(",")}
    return found


def test_what_is_shown_is_public() -> None:
    """No page or example shows a path that is not promised here."""
    assert {f"{module}.{name}" for module, name in shown() if name not in PUBLIC.get(module, ())} == set()


def test_our_entry_points_lead_to_public_paths() -> None:
    """The command."""
    (command,) = entry_points(group="console_scripts", name="wallet-gql")
    module, _, name = command.value.partition(":")
    assert name in PUBLIC[module]
