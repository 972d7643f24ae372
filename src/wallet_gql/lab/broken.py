"""A writing process whose product is broken on purpose, for `fault` under a mutant.

```
python -m wallet_gql.lab.broken MODULE MUTANT URL HISTORY …      further arguments as in wallet_gql.testing.writer
```
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

import pytest

from ..testing import writer

SOUND: Final = "(sound)"
"""No mutant: the product as it is."""

Mutants = Mapping[str, Callable[[pytest.MonkeyPatch], None]]


def load(module: str) -> Mutants:
    """A module's mutants by name. Raises ImportError, AttributeError."""
    mutants: Mutants = import_module(module).MUTANTS
    return mutants


def spoil(module: str, mutant: str) -> None:
    """Break this process for good."""
    if mutant != SOUND:
        load(module)[mutant](pytest.MonkeyPatch())


def command(module: str, mutant: str) -> tuple[str, ...]:
    """The command line of such a writer up to its arguments. It imports the module from the working directory."""
    return (sys.executable, "-m", __name__, module, mutant)


def main() -> None:
    """Spoil the product, then write."""
    _, module, mutant, *rest = sys.argv
    spoil(module, mutant)
    sys.argv[1:] = rest
    writer.main()


if __name__ == "__main__":
    main()
