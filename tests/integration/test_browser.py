"""What tests are told by a browser."""

from __future__ import annotations

import pytest

from tests.integration._browser import Browser


@pytest.mark.parametrize("condition", ["Promise.resolve(0)", "(async () => false)()", "false || Promise.resolve(true)"])
def test_a_condition_that_holds_before_anything_has_happened_is_none(browser: Browser, condition: str) -> None:
    """A promise is truthy at once, whatever it comes to: a test that waits for one would wait for nothing."""
    with browser.page() as page:
        with pytest.raises(AssertionError, match="a condition is a promise"):
            page.wait_for(condition, 30)
        assert page.wait_for("(scrollTo(0, 0), 1 + 1)", 30) == 2
