"""Scrapes a server's metrics."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests import leaks
from tests.integration._server import Server
from wallet_gql import metrics
from wallet_gql.testing.patience import patience

SETTINGS = {"metrics_address": "127.0.0.1:0", "survey_seconds": "0.2", "books_seconds": "0.2", "log_format": "json"}
"""A server that measures on a free port, and looks at its store all the time."""

WAIT_SECONDS = 120

Labels = tuple[tuple[str, str], ...]


class Scrape:
    """The samples of one moment, by name and labels."""

    def __init__(self, text: str) -> None:
        leaks.search(text, "metrics")
        self.text = text
        self.samples: dict[str, dict[Labels, float]] = {}
        self.types: dict[str, str] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.types[sample.name] = family.type
                self.samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for found, value in self.samples.get(name, {}).items() if wanted <= set(found))


def url_of(server: Server) -> str:
    """Where the server's metrics are, by its log."""
    found = re.search(r"metrics are served on ([0-9.:]+)", server.log)
    assert found, server.log
    return f"http://{found[1]}/metrics"


def scrape(server: Server) -> Scrape:
    """The metrics now."""
    return Scrape(httpx.get(url_of(server), timeout=patience(30)).raise_for_status().text)


def until(server: Server, is_so: Callable[[Scrape], bool]) -> Scrape:
    """Scrape until it is so."""
    deadline = time.monotonic() + patience(WAIT_SECONDS)
    while not is_so(found := scrape(server)):
        assert time.monotonic() < deadline, f"{found.text}\n{server.log}"
        time.sleep(0.1)
    return found


def touch(metric: metrics.Metric) -> None:
    """Give it a value, with labels that it has not had."""
    labels = ["x"] * len(metric.labels)
    if isinstance(metric, metrics.Count):
        metric.add(*labels)
    elif isinstance(metric, metrics.Spread):
        metric.note(1.0, *labels)
    elif isinstance(metric, metrics.Level):
        metric.set(1.0, *labels)
        metric.add(1.0, *labels)
