"""`MachineConformance`: drawn commands, alone and in crowds, are answered as the small model ledger answers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ..machine import run_machine
from ..missing import server_or_skip
from .suite import OfBackend


class MachineConformance(OfBackend):
    """`examples` sequences of at most `steps` steps; restarts and kills are among the steps if the store is durable.

    `shuffled` is for stores that live in this process: a seeded order of events, and a network that loses replies.
    """

    examples: ClassVar[int] = 5
    steps: ClassVar[int] = 20
    shuffled: ClassVar[bool] = False

    def test_machine_answers_as_the_model_does(self, record_property: Callable[[str, object], None]) -> None:
        """Every answer is the model's; after each step balances, holds and sequences are, too."""
        with server_or_skip():
            run_machine(self.harness, shuffled=self.shuffled, examples=self.examples, steps=self.steps)
        record_property("trials", self.examples)
