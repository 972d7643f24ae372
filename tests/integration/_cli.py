"""The command line in the test's own process."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from typer.main import get_command

from wallet_gql.transports.cli import app as command_line


@cache
def commands() -> Any:
    """Its commands, built once: that takes four times as long as to run most of them."""
    return get_command(command_line.app)


def run_here(*arguments: str, **variables: str) -> int:
    """Run a command with these variables; returns its exit code. What would become a traceback fails the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line, "app", commands())
        patch.setattr("sys.argv", ["wallet-gql", *arguments])
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            command_line.main()
    return int(ended.value.code or 0)
