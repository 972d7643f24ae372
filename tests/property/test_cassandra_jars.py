"""Which folder of jars is taken for Cassandra's."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallet_gql.testing.servers.cassandra_jars import VARIABLE, jars
from wallet_gql.testing.servers.process import ServerMissing


@pytest.mark.parametrize("name", ["apache-cassandra-5.0.4.jar", "cassandra-all-5.0.4.jar"])
def test_a_named_folder_has_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The distribution's name for the server's jar, and Maven's."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / name).touch()
    assert jars.__wrapped__() == tmp_path


def test_a_named_folder_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to name instead is told."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "netty-all-4.1.119.Final.jar").touch()
    with pytest.raises(ServerMissing, match="name the folder of all its jars"):
        jars.__wrapped__()
