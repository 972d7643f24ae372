"""`python -m wallet_gql` is the command `wallet-gql`."""

from .transports.cli import main

if __name__ == "__main__":
    main()
