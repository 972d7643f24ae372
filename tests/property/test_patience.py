"""Tests wait for progress: every time limit is stretched by how busy the machine is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from wallet_gql.testing import patience as module
from wallet_gql.testing.patience import VARIABLE, patience, slowness, wait_until

ROOT = Path(__file__).resolve().parents[2]
FILES = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests").rglob("_*.py")]
SHIPPED = [*(ROOT / "src" / "wallet_gql" / "testing").rglob("*.py")]
CLOCKS = ("monotonic", "perf_counter")


def test_a_busy_machine_is_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten that want to run on two processors: five times as long. An idle machine gets what was asked for."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(module, "_processors", lambda: 2)
    for wanting, factor in ((0.0, 1.0), (2.0, 1.0), (10.0, 5.0)):
        monkeypatch.setattr(module, "_wanting_to_run", lambda wanting=wanting: wanting)
        assert patience(3.0) == 3.0 * factor
    monkeypatch.setenv(VARIABLE, "4")
    assert slowness() == 20.0


def test_the_machine_tells_how_busy_it_is() -> None:
    """The real numbers are plausible."""
    assert 1.0 <= slowness() < 10_000.0


def test_a_wait_ends_with_what_it_waits_for_or_names_it() -> None:
    """The limit is for what never comes."""
    assert wait_until(lambda: True, 0.0, "nothing") < 60
    with pytest.raises(TimeoutError, match="the moon"):
        wait_until(lambda: False, 0.01, "the moon")


def _is_stretched(limit: ast.expr) -> bool:
    """Whether a limit goes through `patience`, is a variable that may, or is no limit at all (0, None)."""
    if isinstance(limit, ast.Constant):
        return limit.value in (0, None)
    if isinstance(limit, ast.BinOp):
        return _is_stretched(limit.left) or _is_stretched(limit.right)
    return not (isinstance(limit, ast.Name) and limit.id.isupper())


def _limits(tree: ast.AST) -> Iterator[ast.expr]:
    """Every limit of a wait: of calls, and of comparisons with the time that has passed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (word.value for word in node.keywords if word.arg == "timeout")
            called = ast.unparse(node.func)
            if called in ("asyncio.timeout", "process.wait") and node.args:
                yield node.args[0]
            elif called == "asyncio.wait_for" and len(node.args) > 1:
                yield node.args[1]
        elif isinstance(node, ast.Compare) and any(clock in ast.unparse(node.left) for clock in CLOCKS):
            yield from (
                limit
                for sign, limit in zip(node.ops, node.comparators, strict=True)
                if isinstance(sign, ast.Lt | ast.LtE)
            )
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _is_now(node.left):
            yield node.right


def _is_now(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith((*CLOCKS, "loop().time"))


@pytest.mark.parametrize("path", [*FILES, *SHIPPED], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_wait_has_a_limit_of_its_own(path: Path) -> None:
    """A literal number of seconds would be too short on some machine."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [f"{limit.lineno}: {ast.unparse(limit)}" for limit in _limits(tree) if not _is_stretched(limit)] == []
