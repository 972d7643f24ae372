"""Whether Prometheus would raise an alarm of `deploy/prometheus/alerts.yml`."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import yaml  # type: ignore[import-untyped]  # it has no types of its own

from tests.integration._metrics import Scrape
from wallet_gql.testing.missing import server_or_skip
from wallet_gql.testing.servers.process import ServerMissing

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"

GROUPS: Final = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALERTS: Final = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}


def fires(alert: str, found: Scrape, before: Scrape | None = None, *, minutes: int = 10) -> bool:
    """Whether Prometheus raises an alarm if it scrapes this for some minutes, by its own `promtool`.

    The scrapes begin at the time 0. What is counted grows at each scrape as it did since `before`.
    """
    series = []
    for name in set(re.findall(r"\b(?:wallet_\w+|up)\b", ALERTS[alert]["expr"])):
        counts = found.types.get(name) != "gauge"
        earlier = before.samples.get(name, {}) if before else {}
        for labels, value in found.samples.get(name, {}).items():
            if math.isnan(value) or (counts and before is not None and labels not in earlier):
                continue
            step = value - earlier[labels] if counts and labels in earlier else 0.0
            told = {"instance": "one", "job": "wallet", **dict(labels)}
            named = ",".join(f'{label}="{text}"' for label, text in told.items())
            series.append({"series": f"{name}{{{named}}}", "values": f"{value}+{step}x{4 * minutes}"})
    expected = {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": []}
    test = {"interval": "15s", "input_series": series, "alert_rule_test": [expected]}
    with NamedTemporaryFile("w", suffix=".json") as file:  # which is YAML, too
        json.dump({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [test]}, file)
        file.flush()
        command = [promtool(), "test", "rules", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    told_of = f"alertname: {alert}, time: {expected['eval_time']}" in done.stdout + done.stderr
    assert told_of == bool(done.returncode), done.stdout + done.stderr
    return told_of


def promtool() -> str:
    """Prometheus's own checker of rules. Skips the test where it is not installed."""
    with server_or_skip():
        program = shutil.which("promtool")
        if program is None:
            raise ServerMissing("no promtool; apt install prometheus")
    return program
