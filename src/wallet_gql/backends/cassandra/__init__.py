"""Cassandra: each partition of the ledger has one row decided by Paxos; all other rows follow from that row."""
