"""Records refuse assignment in tests, and behave the same when the wallet runs with plain slots."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from wallet_gql.domain import commands, model
from wallet_gql.domain.changes import scope
from wallet_gql.domain.frozen import VARIABLE

RECORDS = [
    made
    for module in (commands, model, scope)
    for made in vars(module).values()
    if isinstance(made, type) and is_dataclass(made) and made.__module__ == module.__name__
]

BEHAVIOUR = """
from copy import copy
from dataclasses import replace
from pickle import dumps, loads

from wallet_gql.domain.changes import Changes, Scope
from wallet_gql.domain.errors import InvariantViolated
from wallet_gql.domain.model import EPOCH, Entry, RecordKey

entry = Entry("acc_1", 1, "trf_1", 5, 5, EPOCH)
other = replace(entry, sequence=2)
print(entry, entry == copy(entry), entry == other, hash(entry) == hash(copy(entry)), loads(dumps(entry)) == entry)
print(len({RecordKey("a", "b", 1), RecordKey("a", "b", 1)}), Changes() + Changes() == Changes(), Scope(home=3))
print(hasattr(entry, "__dict__"))
try:
    replace(entry, sequence=0)
except InvariantViolated as error:
    print(error)
try:
    entry.other = 1
except (AttributeError, TypeError):
    print("no other fields")
"""


def behaviour(*, frozen: bool) -> str:
    """What a fresh interpreter prints of records."""
    environment = {**os.environ, VARIABLE: "1" if frozen else "0"}
    command = [sys.executable, "-c", BEHAVIOUR]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_no_test_assigns_to_a_record(record: type) -> None:
    """Every record of the domain is made by the one decorator, and refuses assignment here."""
    one: object = object.__new__(record)
    with pytest.raises(FrozenInstanceError):
        setattr(one, fields(record)[0].name, None)


def test_a_running_wallet_has_the_same_records() -> None:
    """They are compared, hashed, copied, pickled, replaced and checked alike, and have slots alone."""
    assert behaviour(frozen=True) == behaviour(frozen=False)
    assert "no other fields" in behaviour(frozen=False)
