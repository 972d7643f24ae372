"""The command line: `wallet-gql`."""

from .app import main

__all__ = ["main"]
