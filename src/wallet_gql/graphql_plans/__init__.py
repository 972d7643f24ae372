"""GraphQL operations compiled into Python: a document that comes again runs without graphql-core's executor.

A `Plan` answers what `strawberry.Schema.execute` answers: the same data in the same order, the same errors at the same
paths and places, with the resolvers called as often and in the same order. Two things differ: an object of `made_along`
that nobody needs is not made, and what `leave_to_json` names is left to the JSON encoder. Plans cover queries and
mutations. The rest is refused, by `NotCoveredError`, before anything has run: subscriptions, introspection, `@defer`,
`@stream` and other directives, arguments of fragments. `Plans` keeps a bounded number of them.

Documents must be valid: plans check variables and arguments, but do not validate.

This package knows graphql-core and Strawberry, and nothing of the application.
"""

from __future__ import annotations

from .along import along, leave_to_json, made_along
from .cache import Plans
from .inputs import Inputs
from .plan import Plan
from .selections import NotCoveredError

__all__ = ["Inputs", "NotCoveredError", "Plan", "Plans", "along", "leave_to_json", "made_along"]
