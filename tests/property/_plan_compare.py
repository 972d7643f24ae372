"""Plans beside Strawberry and graphql-core: the same document, data and variables, both ways."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from graphql import parse, specified_rules
from strawberry.schema.schema import validate_document

from tests.property._plan_operations import OperationMaker
from tests.property._plan_schemas import CALLS, WILDNESS, Given, Made, make, make_schema
from wallet_gql.graphql_plans import Inputs, Plan

IDLE_TURNS: Final = 10
"""Turns of the loop that work takes at most which nobody waits for any more."""

DOCUMENTS_OF_A_SCHEMA: Final = 40


@dataclass(frozen=True)
class Difference:
    """What the two ways answered, where it is not the same."""

    seeds: tuple[int, int, str]
    document: str
    variables: dict[str, Any]
    expected: Any
    got: Any


@lru_cache(maxsize=4)
def made_schema(seed: int) -> tuple[Made, Inputs]:
    """A schema, with the functions for its inputs."""
    made = make_schema(seed)
    return made, Inputs(made.schema)


def cases(first: int, count: int) -> Iterator[Difference | None]:
    """So many comparisons, each None or what differs."""
    done, number = 0, first
    while done < count:
        for difference in compared(number // DOCUMENTS_OF_A_SCHEMA, number):
            done += 1
            yield difference
        number += 1


def compared(schema_seed: int, document_seed: int) -> Iterator[Difference | None]:
    """One document with data of several kinds; nothing if it is not valid."""
    made, inputs = made_schema(schema_seed)
    made.install()
    rng = random.Random(f"{schema_seed} {document_seed}")
    schema = made.schema._schema
    is_mutation = rng.random() < 0.3
    maker = OperationMaker(schema, rng)
    text = maker.make(is_mutation=is_mutation)
    document = parse(text)
    if validate_document(schema, document, tuple(specified_rules)):
        return
    Given.document = document
    plan = Plan(made.schema, inputs, document, "Op")
    root = "Mutation" if is_mutation else "Query"
    tasks = [(seed, maker.variables()) for seed in WILDNESS]
    for seed, variables, expected, got in asyncio.run(_run(made, plan, root, text, tasks)):
        same = expected == got
        yield None if same else Difference((schema_seed, document_seed, seed), text, variables, expected, got)


async def _run(
    made: Made, plan: Plan, root: str, text: str, tasks: list[tuple[str, dict[str, Any]]]
) -> list[tuple[str, dict[str, Any], Any, Any]]:
    """Without plans one after the other; by the plan all at once: runs must not see each other."""
    expected = []
    for seed, variables in tasks:
        CALLS.clear()
        result = await made.schema.execute(text, variables, "context", make(root, seed), "Op")
        await _idle()
        expected.append((_shown(result), _calls(seed)))
    CALLS.clear()
    runs = [plan.prepare(variables).run("context", make(root, seed)) for seed, variables in tasks]
    results: list[Any] = await asyncio.gather(*runs, return_exceptions=True)
    await _idle()
    got = [(_shown(result), _calls(seed)) for (seed, _), result in zip(tasks, results, strict=True)]
    return [(*task, one, other) for task, one, other in zip(tasks, expected, got, strict=True)]


def _shown(result: Any) -> tuple[str, list[Any]]:
    """What a client sees, in order; an exception is what no client should see."""
    if isinstance(result, BaseException):
        return repr(result), []
    errors = [(error.message, error.path, error.locations, error.extensions) for error in result.errors or ()]
    return repr(result.data), errors


def _calls(seed: str) -> list[str]:
    return [call for call in CALLS if call.startswith(seed)]


async def _idle() -> None:
    for _ in range(IDLE_TURNS):
        await asyncio.sleep(0)
