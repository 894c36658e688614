"""A program that forks with an open connector: each process must have connections of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from procrastinate.adapters.connections.worker_connector import WorkerConnector
from procrastinate.adapters.standalone import SQLAlchemyConnector
from procrastinate.adapters.standalone.pools import SyncRunner
from procrastinate.connector import BaseConnector
from tests.database import libpq_url
from tests.standalone.operations import backend_pid


def main(database_url: str) -> None:
    """Compare the server processes of parent and child."""
    for connector in (SQLAlchemyConnector(database_url), WorkerConnector(libpq_url(database_url))):
        fork_with(connector)
    fork_while_another_thread_opens(database_url)


def fork_with(connector: BaseConnector) -> None:
    """Use the connector in a child, and then in its parent."""
    connector.open()
    before = connector.run(backend_pid)
    child = os.fork()
    if child == 0:
        os._exit(0 if connector.run(backend_pid) != before else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child of {connector} spoke on the connection of its parent"
    assert connector.run(backend_pid) == before, f"the child closed {connector} of its parent"
    connector.close()


def fork_while_another_thread_opens(database_url: str) -> None:
    """Fork while another thread makes the first engine, which imports a driver."""
    connector, is_opening = SQLAlchemyConnector(database_url), threading.Event()
    make_sync = connector._source.make_sync

    def open_slowly() -> SyncRunner:
        is_opening.set()
        time.sleep(0.5)
        return make_sync()

    connector._source.make_sync = open_slowly  # type: ignore[method-assign]
    connector.open()
    threading.Thread(target=connector.run, args=(backend_pid,)).start()
    is_opening.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if connector.run(backend_pid) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, "the child waited for a thread of its parent"


if __name__ == "__main__":
    main(sys.argv[1])
