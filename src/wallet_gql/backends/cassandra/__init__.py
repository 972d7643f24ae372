"""Cassandra: each partition of the ledger is one row decided by Paxos; all other rows follow from it."""
