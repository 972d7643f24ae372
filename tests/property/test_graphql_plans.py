"""A plan answers what graphql-core answers: the same data in the same order, the same errors, the same calls.

Schemas, data and operations are made at random, see `_plan_schemas` and `_plan_operations`. That the comparison sees
what matters is shown by mutants: plans with one mistake each.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import pytest
import strawberry
from graphql import GraphQLObjectType, parse

from tests.property._plan_compare import Difference, cases, compared, made_schema
from wallet_gql.graphql_plans.fields import Field
from wallet_gql.graphql_plans.inputs import Inputs
from wallet_gql.graphql_plans.objects import INLINED_DEEP, _Writer, known_class
from wallet_gql.graphql_plans.plan import Plan, Shape

# When a field fails that must not be null, both ways cancel its neighbours: those that had not begun never do.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CASES: Final = 2_000
CASES_OF_A_SOAK: Final = 50_000
BATCHES: Final = 8
CASES_OF_A_MUTANT: Final = 1_500
"""A mutant is found much earlier; if not, the comparison is blind."""


def differences(first: int, count: int) -> Iterator[Difference]:
    """Those among so many cases."""
    return (found for found in cases(first, count) if found is not None)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_plans_answer_what_graphql_core_answers(batch: int) -> None:
    """None of the cases differs."""
    assert next(differences(batch * 10_000, CASES // BATCHES), None) is None


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_plans_answer_what_graphql_core_answers_for_long(batch: int) -> None:
    """The same with many more cases."""
    assert next(differences(1_000_000 + batch * 100_000, CASES_OF_A_SOAK // BATCHES), None) is None


@strawberry.type
class Nest:
    """Holds another one, for ever."""

    depth: int

    @strawberry.field
    def inner(self) -> Nest:
        """The next one."""
        return Nest(depth=self.depth + 1)

    @strawberry.field
    async def later(self) -> int | None:
        """Its depth, or an error."""
        if self.depth % 2:
            raise ValueError(self.depth)
        return self.depth


@strawberry.type
class NestQuery:
    """Where the nest begins."""

    nest: Nest = strawberry.field(resolver=lambda: Nest(depth=0))


@pytest.mark.parametrize("depth", [1, INLINED_DEEP, INLINED_DEEP + 1, 40])
async def test_objects_inside_objects(depth: int) -> None:
    """However deep they are: Python itself compiles only so many blocks inside one another."""
    schema = strawberry.Schema(NestQuery)
    text = "{ nest { " + "depth later inner { " * depth + "depth" + " }" * depth + " } }"
    expected = await schema.execute(text)
    got = await Plan(schema, Inputs(schema), parse(text), None).prepare({}).run()
    assert got.data == expected.data
    assert sorted(map(str, got.errors or ())) == sorted(map(str, expected.errors or ()))


T = TypeVar("T")


@strawberry.type
class Box(Generic[T]):
    """Holds one of something."""

    content: T


@strawberry.type
class BoxQuery:
    """Boxes of two kinds."""

    nests: list[Box[Nest]] = strawberry.field(resolver=lambda: [Box(content=Nest(depth=n)) for n in range(3)])
    number: Box[int] = strawberry.field(resolver=lambda: Box(content=7))


async def test_generic_types() -> None:
    """Objects of a generic type are known by their class, and answered as without a plan."""
    schema = strawberry.Schema(BoxQuery)
    text = "{ nests { __typename content { depth } } number { __typename content } }"
    expected = await schema.execute(text)
    got = await Plan(schema, Inputs(schema), parse(text), None).prepare({}).run()
    assert got.data == expected.data
    kind = schema._schema.type_map["NestBox"]
    assert isinstance(kind, GraphQLObjectType)
    assert known_class(kind) is Box


def plant(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, right: str, wrong: str) -> None:
    """Put one mistake into a method."""
    method = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(method))
    assert right in source, source
    names = dict(method.__globals__)
    exec(compile(f"from __future__ import annotations\n{source.replace(right, wrong)}", "<mutant>", "exec"), names)
    monkeypatch.setattr(owner, name, names[name])


MUTANTS: Final[dict[str, tuple[Any, str, str, str]]] = {
    "@oneOf unchecked": (Inputs, "_object_checker", "return finish(checked)", "return checked"),
    "an unknown input field let through": (Inputs, "_object_checker", " <= known.keys()", ""),
    "a null where there must be none": (_Writer, "_field", "if field.is_required:", "if False:"),
    "a null that does not spread": (Field, "failed", "if self.is_required:", "if False:"),
    "a path without its last step": (Field, "failure", "keys_of((path, self.key))", "keys_of(path)"),
    "mutations all at once": (Shape, "__init__", "None if self._is_serial else compiled(fields)", "compiled(fields)"),
    "variables that stay": (Plan, "_check", "checked = {}", "checked = self.__dict__.setdefault('kept', {})"),
    "handlers forgotten": (Field, "_asynchronous", "for kinds, each in handlers", "for kinds, each in ()"),
    "an error that hides others": (Field, "failed", "run.add(located, place)", "run.errors[:] = [located]"),
    "what another condition selects": (Plan, "_shape", "get(said)", "get(next(iter(self._shapes), said))"),
}
"""Where the mistake is, what is right, and what is put in its place."""

FIRST: Final = {"an unknown input field let through": 360, "handlers forgotten": 400}
"""With which document to begin, for a mistake that few documents show."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake makes some case differ, in which nothing differs without it."""
    made_schema.cache_clear()
    plant(monkeypatch, *MUTANTS[mutant])
    try:
        found = next(differences(FIRST.get(mutant, 0), CASES_OF_A_MUTANT), None)
    finally:
        monkeypatch.undo()
        made_schema.cache_clear()
    assert found is not None
    schema_seed, document_seed, _ = found.seeds
    assert not any(compared(schema_seed, document_seed))
