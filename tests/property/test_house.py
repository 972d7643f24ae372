"""Rules for every file of the product: short files and short functions. `lint-imports` finds circles of imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).resolve().parents[2] / "src"
LINES_MAX: Final = 400
FUNCTION_MAX: Final = 60


def files() -> Iterator[Path]:
    """Every Python file of the product."""
    return (file for file in sorted(SOURCE.rglob("*.py")))


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function, from `def` to its end."""
    return (node.end_lineno or 0) - node.lineno + 1


def test_files_and_functions_are_short() -> None:
    """At most 400 lines a file, 60 a function with its head and docstring."""
    long: list[str] = []
    for file in files():
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > LINES_MAX:
            long.append(f"{file.relative_to(SOURCE)} has {text.count(chr(10))} lines")
        long += [
            f"{file.relative_to(SOURCE)}: {node.name} has {lines_of(node)} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > FUNCTION_MAX
        ]
    assert long == []
