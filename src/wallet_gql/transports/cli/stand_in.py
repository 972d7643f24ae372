"""`wallet-gql stripe-stand-in`: what stands in for Stripe, to try top-ups and withdrawals."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Annotated, Final

import typer

from ...domain.errors import ConfigurationError
from ...integrations.stripe_stand_in.cards import DECLINED, PAYS
from ...integrations.stripe_stand_in.running import FAILING, running
from ...integrations.stripe_stand_in.server import StandIn
from ..http.webhooks import PATH

app = typer.Typer(rich_markup_mode="rich")

PORT: Final = 12111
SECRET: Final = "whsec_of_the_stand_in"  # noqa: S105 - it guards nothing: the stand-in listens on this machine alone


@app.command(epilog="Example:  wallet-gql stripe-stand-in --wallet http://127.0.0.1:8000")
def stripe_stand_in(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = PORT,
    wallet: Annotated[str, typer.Option(metavar="URL", help="The wallet that is told.")] = "http://127.0.0.1:8000",
    bank_seconds: Annotated[float, typer.Option(min=0, help="How long a payout is pending, and then on its way.")] = 3,
) -> None:
    """Stand in for Stripe until Ctrl-C: its API, a card page, signed events. For development; no real money."""
    if not wallet.startswith(("http://", "https://")):
        raise typer.BadParameter("write http://host:port", param_hint="--wallet")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        try:
            stand_in = running(wallet.rstrip("/") + PATH, (SECRET,), port=port, bank_seconds=bank_seconds)
            with stand_in as started:
                typer.echo(_help(started))
                signal.pause()
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"cannot listen on port {port}: {error}; choose another --port") from error


def _help(stand_in: StandIn) -> str:
    names = {"API_KEY": stand_in.key, "API_BASE": stand_in.url, "WEBHOOK_SECRETS": SECRET}
    return "\n".join(
        [
            f"Stripe's stand-in is at {stand_in.url}  (Ctrl-C ends it, and it forgets everything)",
            "Start the wallet with:",
            *(f"  export WALLET_STRIPE_{name}={value}" for name, value in names.items()),
            f"Cards: {PAYS} pays, {DECLINED} is declined.",
            "Withdrawals go to the account that you say: wallet-gql payments payout-account alice acct_alice",
            f"The bank returns those to an account such as acct_alice{FAILING}.",
        ]
    )
