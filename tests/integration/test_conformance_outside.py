"""The suite on a backend that `--backend` names and that has no module here: of another package, or a URL."""

import pytest

from wallet_gql.testing.conformance import CrashConformance, MachineConformance, StoreConformance
from wallet_gql.testing.conformance.suite import OfBackend
from wallet_gql.testing.harness import Harness, harness_for


class Chosen(OfBackend):
    """The backend of the command line."""

    backend = "any"

    @pytest.fixture(autouse=True)
    def _chosen(self, request: pytest.FixtureRequest) -> None:
        """Remember the option."""
        self.chosen: str = request.config.getoption("--backend")

    def harness(self) -> Harness:
        """The harness of that name or URL."""
        return harness_for(self.chosen)


class TestOutside(Chosen, StoreConformance):
    """The promises, each as tests."""


class TestOutsideKilled(Chosen, CrashConformance):
    """Processes that write to it are killed."""


class TestOutsideByModel(Chosen, MachineConformance):
    """Drawn commands."""
