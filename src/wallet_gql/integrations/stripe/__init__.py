"""Money in and out through Stripe: top-ups, withdrawals, refunds, disputes, webhooks."""
