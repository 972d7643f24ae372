"""Work on a whole ledger: audit, export and import."""
