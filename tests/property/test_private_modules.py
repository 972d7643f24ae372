"""A module whose name begins with an underscore belongs to its package: no other package imports it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import wallet_gql.backends.kit as public_kit

ROOT: Final = Path(__file__).resolve().parents[2]
GUIDE: Final = ROOT / "docs" / "writing-a-backend.md"
EXAMPLES: Final = ("outside_backend", "broken_backend")
_TESTS: Final = ("tests",)
"""The tests are one package: their helpers serve all of its folders."""


def imported(text: str, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a module of that package imports, name by name, as parts of its full path."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)


def is_module(path: tuple[str, ...]) -> bool:
    """Whether the path names a module or package of this repository."""
    place = ROOT.joinpath(*(("src", *path) if path[0] == "wallet_gql" else path))
    return place.with_suffix(".py").is_file() or place.is_dir()


def trespasses(text: str, package: tuple[str, ...]) -> list[str]:
    """The private modules of other packages that are imported."""
    found = []
    for path in imported(text, package):
        for place, part in enumerate(path):
            private = part.startswith("_") and not part.startswith("__") and is_module(path[: place + 1])
            owner = _TESTS if path[:1] == _TESTS else path[:place]
            if private and package[: len(owner)] != owner:
                found.append(".".join(path))
    return found


def modules() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every Python file of the repository, with the package that it is in."""
    for top in ("src", "tests", "benchmarks", "scripts", "examples"):
        for file in sorted((ROOT / top).rglob("*.py")):
            yield file, file.relative_to(ROOT / "src" if top == "src" else ROOT).parts[:-1]


def test_no_module_imports_a_private_one_of_another_package() -> None:
    """Product, tests, benchmarks, scripts and examples."""
    found = {str(file.relative_to(ROOT)): trespasses(file.read_text(encoding="utf-8"), at) for file, at in modules()}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line", ["from wallet_gql.transports.http import _x", "import wallet_gql.testing._payments_ends"]
)
def test_a_trespass_is_found(line: str) -> None:
    """The check sees both ways to import a module, and lets its own package do it."""
    seen = bool(trespasses(line, ("tests", "property")))
    assert seen == ("_payments_ends" in line)  # the other names no module
    assert trespasses("from ._payments_ends import unanswered", ("wallet_gql", "testing")) == []


def outside() -> Iterator[tuple[str, str]]:
    """The examples for authors of backends: files, and the blocks of the guide."""
    for name in EXAMPLES:
        yield name, (ROOT / "tests" / "integration" / f"{name}.py").read_text(encoding="utf-8")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)):
        yield f"guide-{number}", block


@pytest.mark.parametrize(("name", "text"), list(outside()), ids=[name for name, _ in outside()])
def test_an_outside_backend_needs_public_names_only(name: str, text: str) -> None:
    """No private module or name; of the kit, what its `__all__` has."""
    for path in imported(text, ("outside",)):
        assert not any(part.startswith("_") and not part.startswith("__") for part in path), (name, path)
        if path[:3] == ("wallet_gql", "backends", "kit"):
            assert len(path) == len(("wallet_gql", "backends", "kit", "Name"))
            assert path[3] in public_kit.__all__
