"""Rules for every file of the product: short files, short functions, no two files that import each other."""

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


def module_of(file: Path) -> str:
    """Its dotted name."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its head and docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def imports_of(file: Path) -> Iterator[str]:
    """The modules of ours that a file imports, whether at run time or for types alone."""
    package = module_of(file).split(".") if file.name == "__init__.py" else module_of(file).split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            module = ".".join(filter(None, base))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_files_and_functions_are_short() -> None:
    """At most 400 lines a file, 60 a function."""
    long: list[str] = []
    for file in files():
        text = file.read_text(encoding="utf-8")
        if text.count("\n") > LINES_MAX:
            long.append(f"{file.relative_to(SOURCE)} has {text.count(chr(10))} lines")
        long += [
            f"{file.relative_to(SOURCE)}: {node.name} has {body_lines(node)} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > FUNCTION_MAX
        ]
    assert long == []


def test_no_two_files_import_each_other() -> None:
    """Neither at run time nor for types. A package whose `__init__` collects its modules' names is no circle."""
    modules = {module_of(file): file for file in files()}
    seen = {name: {other for other in imports_of(file) if other in modules} for name, file in modules.items()}
    packages = {name for name, file in modules.items() if file.name == "__init__.py"}
    circles = {
        tuple(sorted((name, other)))
        for name, others in seen.items()
        for other in others
        if name != other and name in seen[other] and not {name, other} & packages
    }
    assert circles == set()
