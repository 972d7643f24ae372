"""`wallet-gql lab load`: the same load for everybody, stalls that show, figures that say how sure they are."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.integration.mutants import MUTANTS
from wallet_gql.domain.errors import Unavailable
from wallet_gql.lab.doors import DOORS, GraphqlDoor, LedgerDoor
from wallet_gql.lab.load import Target, compare, prepared
from wallet_gql.lab.schedule import MIXES, REPLAYED, SMALLBANK, Mix, Planned, Shape, digest, draw
from wallet_gql.lab.stats import P99_SAMPLES_MIN, Latencies, interval, ratios
from wallet_gql.testing.harness import harness_for
from wallet_gql.testing.world import World
from wallet_gql.transports.cli import app as cli

DIGESTS: Final = {
    "transfer": "f8fb3c6e55d4eab95b131904f6f1616b8f5f12a6c53f7708385126eaeaa4f20a",
    "smallbank": "d11b969dc3ea3bb6b40ac07b1c091eaa2fc106fdd81c2cc91b57d8e2966bec53",
    "hold": "67730ebac3ae38fde6f2dc02cc0e7d98fa94177c14dfcd6172db8bdcd3bd1276",
    "replay": "00094a1254a04ec8e0aa4fa6fa76ced7be90833f948b1cd6685a9fed890cbc1a",
}
"""What every machine must draw for seed 1 with unequal accounts."""


def drawn(mix: Mix, **more: Any) -> Shape:
    """A shape with unequal accounts."""
    return Shape(mix, theta=0.8, **more)


@pytest.mark.parametrize("mix", MIXES)
def test_a_shape_has_one_schedule_on_every_machine(mix: Mix) -> None:
    """Its digest is written here; another seed has another one."""
    assert digest(draw(drawn(mix))) == DIGESTS[mix]
    assert digest(draw(drawn(mix, seed=2))) != DIGESTS[mix]


@pytest.mark.parametrize("mix", MIXES)
def test_a_schedule_has_the_shares_of_its_shape(mix: Mix) -> None:
    """Reads, transfers across, repetitions and SmallBank's six, each within four standard deviations."""
    shape = Shape(mix, operations=10_000, reads=0.5 if mix == "transfer" else 0.0, cross=0.3)
    schedule = draw(shape)
    shares: dict[str, tuple[float, float]] = {}
    counts = Counter(planned.operation for planned in schedule)
    if mix == "smallbank":
        shares = {name: (counts[name] / 10_000, percent / 100) for name, percent in SMALLBANK.items()}
    else:
        pairs = [planned for planned in schedule if planned.operation != "read" and planned.again < 0]
        across = sum(planned.first % 2 != planned.second % 2 for planned in pairs)
        shares = {"read": (counts["read"] / 10_000, shape.reads), "across": (across / len(pairs), 0.3)}
    if mix == "replay":
        shares["again"] = (sum(planned.again >= 0 for planned in schedule) / 10_000, REPLAYED)
    for name, (share, wanted) in shares.items():
        assert abs(share - wanted) <= 4 * (wanted * (1 - wanted) / 10_000 * 2) ** 0.5, name
    assert [planned.at_us for planned in schedule[:3]] == [0, 10_000, 20_000]
    for place, planned in enumerate(schedule):
        assert planned.again < place
        if planned.again >= 0:
            first = schedule[planned.again]
            assert first.again < 0
            assert (first.first, first.second, first.amount_minor) == (
                *(planned.first, planned.second),
                planned.amount_minor,
            )


def test_theta_makes_accounts_unequal() -> None:
    """The hottest account's share is that of its weight."""
    for theta in (0.0, 0.8, 1.2):
        schedule = draw(Shape(theta=theta, operations=10_000))
        weights = [(i + 1) ** -theta for i in range(32)]
        share = sum(planned.first == 0 for planned in schedule) / 10_000
        assert share == pytest.approx(weights[0] / sum(weights), abs=0.02)


@pytest.mark.parametrize("wrong", [{"accounts": 10}, {"rate": 0}, {"reads": 1.1}, {"theta": -1}, {"operations": 0}])
def test_an_impossible_shape_is_refused(wrong: dict[str, Any]) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=r"must|from 0"):
        Shape(**wrong)


@pytest.mark.parametrize("backend", ["memory-3", "sqlite"])
async def test_every_mix_runs_and_leaves_the_books_right(backend: str, tmp_path: Path) -> None:
    """Most operations succeed, and all backends were given the same schedule."""
    shapes = [Shape(mix, operations=60, rate=2_000, reads=0.2, accounts=8) for mix in MIXES]
    results = await compare([harness_for(backend)], tmp_path, shapes, rounds=1)
    assert [one.shape.mix for one in results] == list(MIXES)
    for one in results:
        assert one.wrong == []
        assert one.digest == digest(draw(one.shape))
        assert one.rounds[0].outcomes["ok"] > 40, one.rounds[0].outcomes


@pytest.mark.parametrize("mix", [mix for mix in MIXES if mix != "smallbank"])
async def test_a_load_over_graphql_does_the_same(mix: Mix, tmp_path: Path) -> None:
    """One schedule has one outcome over both APIs, and moves the same money; nothing goes unanswered."""
    schedule = draw(Shape(mix, operations=40, rate=2_000, reads=0.2, accounts=8))
    balances = []
    for api in DOORS:
        (tmp_path / api).mkdir()
        async with World(harness_for("memory"), tmp_path / api) as world, prepared(world, 8, api) as target:
            done = await target.run(schedule)
            assert done.outcomes == {"ok": len(schedule)}
            balances.append([await world.balance(person) for person in target.people])
    assert balances[0] == balances[1]


async def test_graphql_tells_refusals_from_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little money is a refusal; a store that is away, and a token that is none, give no answer."""
    async with World(harness_for("memory"), tmp_path) as world, prepared(world, 8, "graphql") as target:
        door = target.door
        assert isinstance(door, GraphqlDoor)
        for operation in ("transfer", "hold"):
            assert await door.perform(Planned(0, operation, 0, 1, 10**12), f"dear-{operation}") == "refused"
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "execute", away)
            assert await door.perform(Planned(0, "transfer", 0, 1, 1), "away") == "unknown"
        stranger = GraphqlDoor(door._app, target.people, ["nobody"] * 8)
        assert await stranger.perform(Planned(0, "read", 0, 0, 0), "") == "unknown"


async def away(*given: Any, **more: Any) -> Any:
    """A store that cannot be reached."""
    raise Unavailable(f"on purpose, with {len(given) + len(more)} arguments")


class Stalling:
    """Makes a store hold all commits for a while, once, from a moment on."""

    def __init__(self, target: Target, after_seconds: float, seconds: float) -> None:
        self._sound = target.world.store.execute
        self._from = time.monotonic() + after_seconds
        self._until = self._from + seconds

    async def __call__(self, *given: Any, **more: Any) -> Any:
        """Execute, after the stall."""
        now = time.monotonic()
        if self._from <= now < self._until:
            await asyncio.sleep(self._until - now)
        return await self._sound(*given, **more)


async def test_a_stall_shows_in_the_open_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that stalls for 1 s delays what was due meanwhile; two clients that wait hide it in p99 (E10)."""
    schedule = draw(Shape(operations=1_500, rate=500, accounts=8))
    async with World(harness_for("memory"), tmp_path) as world, prepared(world, 8) as target:
        monkeypatch.setattr(world.store, "execute", Stalling(target, 0.5, 1.0))
        told = (await target.run(schedule)).latencies.p99_ms
        monkeypatch.undo()
        monkeypatch.setattr(world.store, "execute", Stalling(target, 0.05, 1.0))
        hidden = (await target.run(schedule, clients=2)).latencies.p99_ms
    assert told is not None
    assert hidden is not None
    assert told > 900
    assert hidden < told / 2


@pytest.mark.parametrize("name", ["normal", "lognormal", "exponential"])
@pytest.mark.parametrize("rounds", [6, 15])
def test_the_interval_covers_the_true_median(name: str, rounds: int) -> None:
    """In at least 95 of 100 cases, whatever the distribution; much more would be too wide to say anything."""
    drawing = np.random.default_rng(7)
    truth = {"normal": 0.0, "lognormal": 1.0, "exponential": float(np.log(2))}[name]
    covered = 0
    for _ in range(200):
        found = interval(getattr(drawing, name)(size=rounds).tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 200 <= 0.995  # 0.95 less two standard deviations of 200 cases


def test_ratios_pair_the_rounds() -> None:
    """What slows both backends in one round does not widen the ratio."""
    base = [1.0, 5.0, 2.0, 9.0, 3.0, 4.0]
    found = ratios([2 * value for value in base], base)
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)
    assert interval(base[:5]).low is None


def test_percentiles_are_those_of_the_calls() -> None:
    """Within the three digits of the histogram; and no p99 of fewer than a thousand calls."""
    random.seed(3)
    values = [random.lognormvariate(8, 1) for _ in range(5_000)]
    kept, few = Latencies(), Latencies()
    for value in values:
        kept.add(value)
    for value in values[: P99_SAMPLES_MIN - 1]:
        few.add(value)
    for percentile in (50, 99):
        assert kept.ms(percentile) == pytest.approx(np.percentile(values, percentile) / 1_000, rel=0.01)
    assert kept.p99_ms == kept.ms(99)
    assert few.p99_ms is None
    few.add(1)
    assert few.p99_ms is not None


def test_wrong_books_make_the_figures_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast store that loses count has no latency."""
    MUTANTS["gap_in_sequences"](monkeypatch)
    told = CliRunner().invoke(
        cli.app,
        ["lab", "load", "sqlite", "--operations", "20", "--rate", "500", "--accounts", "8", "--out", str(tmp_path)],
    )
    assert told.exit_code == 1
    assert "INVALID" in told.output
    (kept,) = json.loads((tmp_path / "load.json").read_text()).values()
    assert kept["valid"] is False
    assert "p50Ms" not in kept


async def test_too_many_errors_make_the_figures_invalid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is fast because it does not answer has no latency either."""
    sound = LedgerDoor._perform
    places = iter(range(10**9))

    async def failing(door: LedgerDoor, *given: Any) -> None:
        if next(places) % 20 == 0:
            raise Unavailable("on purpose")
        await sound(door, *given)

    monkeypatch.setattr(LedgerDoor, "_perform", failing)
    (measured,) = await compare([harness_for("memory")], tmp_path, [Shape(operations=100, rate=2_000)], rounds=1)
    assert measured.wrong == ["round 1: 5.0 % without an answer"]
    assert measured.plain()["valid"] is False


def test_results_say_what_they_depend_on(tmp_path: Path) -> None:
    """Both backends ran one schedule; the environment is beside the figures, and a later run adds to them (D7, D8)."""
    common = ["--operations", "30", "--rate", "1000", "--accounts", "8", "--out", str(tmp_path)]
    for backends, theta in ((["memory", "sqlite"], "0"), (["memory"], "0,1.2")):
        told = CliRunner().invoke(cli.app, ["lab", "load", *backends, "--theta", theta, *common])
        assert told.exit_code == 0, told.output
        assert "too few" in told.output
    results = json.loads((tmp_path / "load.json").read_text())
    assert sorted(name.split()[0] for name in results) == ["memory", "memory", "sqlite"]
    hot = [result["schedule"] for name, result in results.items() if "theta=1.2" in name]
    assert len({result["schedule"] for result in results.values()} - set(hot)) == 1
    environment = json.loads((tmp_path / "environment.json").read_text())["load.json"]
    assert {"cpu", "commit", "python", "packages", "command"} <= set(environment)
    assert environment["packages"]["scipy"]
