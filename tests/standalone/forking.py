"""A program that forks with an open connector: each process must have connections of its own."""

from __future__ import annotations

import os
import sys

from procrastinate.adapters.standalone import SQLAlchemyConnector
from tests.standalone.operations import backend_pid


def main(database_url: str) -> None:
    """Compare the server processes of parent and child."""
    connector = SQLAlchemyConnector(database_url)
    connector.open()
    before = connector.run(backend_pid)
    child = os.fork()
    if child == 0:
        os._exit(0 if connector.run(backend_pid) != before else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, "the child spoke on its parent's connection"
    assert connector.run(backend_pid) == before, "the child closed its parent's connection"
    connector.close()


if __name__ == "__main__":
    main(sys.argv[1])
