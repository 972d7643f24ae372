"""`cassandra://[user:password@]host[:port][,host…]/keyspace?partitions=16`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ...domain.errors import ConfigurationError
from ...urls import parse

PARTITIONS: Final = 16
"""The number of partitions if the URL does not say."""

PARTITIONS_MAX: Final = 2_048
PORT: Final = 9042
_PORT_MAX: Final = 65_535
_KEYSPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,47}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a ledger. `user` and `password` are both given or both None."""

    hosts: tuple[str, ...]
    port: int
    keyspace: str
    partitions: int
    user: str | None
    password: str | None

    @property
    def shown(self) -> str:
        """The address without secrets."""
        return f"{','.join(self.hosts)}:{self.port}/{self.keyspace}"


def parse_address(text: str) -> Address:
    """Read a storage URL. Raises ConfigurationError that says what to write."""
    where = parse(text)
    where.check_parameters(frozenset({"partitions"}))
    hosts, ports = [], set()
    for part in where.hosts.split(","):
        host, _, port = part.partition(":")
        hosts.append(host)
        ports.add(int(port) if port else PORT)
    if not all(hosts):
        raise ConfigurationError("cassandra:// names no host: write cassandra://HOST[,HOST…]/KEYSPACE")
    if len(ports) > 1:
        raise ConfigurationError("all nodes of a Cassandra cluster listen on one port; write the same after each host")
    if not _KEYSPACE.fullmatch(where.file):
        raise ConfigurationError(
            "cassandra://HOST/KEYSPACE: the keyspace is named in small letters, digits and _, and begins with a letter"
        )
    if (where.user is None) != (where.password is None):
        raise ConfigurationError("cassandra://: give both a user and a password, or neither")
    count = where.parameters.get("partitions", str(PARTITIONS))
    if not count.isdecimal() or not 1 <= int(count) <= PARTITIONS_MAX:
        raise ConfigurationError(f"cassandra://…?partitions=: a whole number from 1 to {PARTITIONS_MAX}")
    return Address(tuple(hosts), ports.pop(), where.file, int(count), where.user, where.password)
