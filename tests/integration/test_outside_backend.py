"""Backends of other packages: found by their URL's scheme, tested by the same suite, which detects broken ones."""

from pathlib import Path

import pytest

from tests.integration._suite_runs import announce, run_suite

SUITE = "tests/integration/test_conformance_outside.py"
BROKEN = {
    "half": ("HalfStore", "test_g1_all_of_a_commands_changes_or_none"),
    "open": ("OpenStore", "test_g2_no_update_is_lost"),
    "forgetful": ("ForgetfulStore", "test_g4_a_receipt_key_is_unique"),
    "lavish": ("LavishStore", "test_i2_an_overdraft"),
}


@pytest.mark.trial
def test_a_backend_of_another_package_passes_the_whole_suite(tmp_path: Path) -> None:
    """`make test BACKEND=toy://` works by installing a package that announces the scheme."""
    path = announce(tmp_path / "site", {"toy": "tests.integration.outside_backend:ToyStore"})
    done = run_suite(SUITE, "--backend", "toy://", path=path)

    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout.splitlines()[-1]


@pytest.mark.trial
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_backend_is_convicted(name: str, tmp_path: Path) -> None:
    """Each flaw fails the test of the guarantee it breaks, or leaves books that the test finds wrong."""
    store, test = BROKEN[name]
    path = announce(tmp_path / "site", {f"broken-{name}": f"tests.integration.broken_backend:{store}"})
    done = run_suite(f"{SUITE}::TestOutside::{test}", "--backend", f"broken-{name}://", path=path)

    assert done.returncode == 1, done.stdout[-3000:]
    assert any(line.startswith(("FAILED", "ERROR")) and test in line for line in done.stdout.splitlines())
