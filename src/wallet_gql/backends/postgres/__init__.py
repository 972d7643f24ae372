"""Postgres: sharded rows on one or several nodes, two-phase commit between them."""
