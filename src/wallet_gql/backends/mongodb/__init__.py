"""MongoDB: multi-document transactions on a replica set or a sharded cluster."""
