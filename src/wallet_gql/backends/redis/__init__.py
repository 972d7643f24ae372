"""The sharded Postgres rows, with Redis leases in place of two-phase commit."""
