"""`CrashConformance`: processes that write to a ledger are killed, at every named point and at random."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from ..crash import FULL_DISK, RANDOM, Tally, draw_trials, run_trial
from ..harness import Harness
from ..missing import server_or_skip
from ..world import World
from .suite import Suite

log = logging.getLogger(__name__)


class CrashConformance(Suite):
    """Nothing answered is lost and nothing happens twice, however often `testing.writer` is killed and restarted.

    `kills` are spread equally over the harness's failpoints, random moments and, where the process itself writes the
    files, full disks; `per_trial` of them are on one ledger. All but the moments of random kills is drawn from `seed`.
    """

    kills: ClassVar[int] = 25
    per_trial: ClassVar[int] = 10
    seed: ClassVar[int] = 1

    def after_trial(self, harness: Harness) -> None:
        """What else must be true after each trial, before the ledger is given back: override it."""

    async def test_crash_nothing_answered_is_lost_and_nothing_doubled(
        self, tmp_path: Path, record_property: Callable[[str, object], None]
    ) -> None:
        """Each kill is followed by a restart that repeats what got no answer, under the same keys."""
        if why := await self._unfit(tmp_path):
            record_property("trials", 0)
            record_property("not_tried", why)
            return
        tally, points = Tally(), self.harness().failpoints
        trials = draw_trials(self.harness(), self.seed, self.kills, per_trial=self.per_trial)
        for number, trial in enumerate(trials):
            folder = tmp_path / str(number)
            folder.mkdir()
            harness = self.harness()
            tally.add(await run_trial(harness, folder, trial))
            self.after_trial(harness)
        log.info("\n%s", tally.table())
        assert tally.kills >= self.kills
        windows = {RANDOM, *points, *([FULL_DISK] if self.harness().has_files else [])}
        assert windows - set(tally.windows) - set(tally.stops) == set()
        record_property("trials", tally.trials)
        missing = {
            "kills at each failpoint, of which it has none": not points,
            "a kill between a commit and its answer, which no kill has hit": not tally.found_done,
        }
        record_property("not_tried", "; ".join(what for what, so in missing.items() if so))

    async def _unfit(self, folder: Path) -> str:
        """Why processes cannot be killed here; empty if they can."""
        probe = folder / "probe"
        probe.mkdir()
        with server_or_skip():
            async with World(self.harness(), probe) as world:
                said = world.store.capabilities
        if said.durable and said.multi_process:
            return ""
        return "killed processes, for it is not durable, or other processes cannot open it"
