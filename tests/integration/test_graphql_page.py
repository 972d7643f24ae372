"""The cost of our GraphQL beside graphql-core's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from benchmarks.graphql_page import measure

RATIO_MAX: Final = 0.8
ATTEMPTS: Final = 3
"""The best of so many: a machine that is busy with something else slows one side of a round, never both alike."""


@pytest.mark.slow
async def test_a_page_of_history(tmp_path: Path) -> None:
    """A page of 100 rows takes at most 0.8 times the processor time of bare graphql-core on the same rows."""
    ratios = []
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        _served, _bare, ratio = await measure(folder, rows=100, rounds=25)
        ratios.append(ratio)
        if ratio <= RATIO_MAX:
            return
    pytest.fail(f"the median ratios were {ratios}")
