"""A typed client for the wallet-gql payment wallet, over REST: see `Client`, `AsyncClient` and `operations`."""

from . import models, operations
from .clients import AsyncClient, Client
from .core import Call, NoAnswer, Problem, Retries, following, new_key

__all__ = [
    "AsyncClient",
    "Call",
    "Client",
    "NoAnswer",
    "Problem",
    "Retries",
    "following",
    "models",
    "new_key",
    "operations",
]
