"""Where every server and program is at hand, a skipped test is a failed one: WALLET_TEST_NO_SKIPS=1 makes it so.

The Makefile loads this plugin (`-p tests.plugins.no_skips`) when that variable is set. Expected failures stay as they
are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


def pytest_configure(config: pytest.Config) -> None:
    """Run the other tests all the same when a whole module skips itself."""
    config.option.continue_on_collection_errors = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of one test into its failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = item.repr_failure(_forbidden(report))
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into an error."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = collector._repr_failure_py(_forbidden(report), style="value")  # the public one re-reads skips
    return report


def _forbidden(report: pytest.TestReport | pytest.CollectReport) -> pytest.ExceptionInfo[BaseException]:
    assert isinstance(report.longrepr, tuple), "pytest tells a skip as (path, line, reason)"
    _path, _line, reason = report.longrepr
    try:
        pytest.fail(f"skips are forbidden here: {reason.removeprefix('Skipped: ')}", pytrace=False)
    except pytest.fail.Exception as failure:
        return pytest.ExceptionInfo.from_exception(failure)
