"""The command line: `wallet-gql`."""

from importlib.util import find_spec


def main() -> None:
    """Run a command, and exit with its code. Without the packages of the extra `server`, say so."""
    if find_spec("typer") is None:
        raise SystemExit("wallet-gql: the command line needs more packages: pip install 'wallet-gql[server]'")
    from .app import main as run  # noqa: PLC0415 - needs these packages

    run()
