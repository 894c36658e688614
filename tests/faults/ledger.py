"""Where each run of a job is written down, on a server that no fault reaches."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from typing import Any

import psycopg

_TABLES = """
CREATE TABLE entries (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number bigint NOT NULL,
    lock text,
    process int NOT NULL,
    moment text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE gates (name text PRIMARY KEY);
"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run has started, or ended. Entries are in the order in which they were written."""

    number: int
    lock: str | None
    process: int
    moment: str


class Ledger:
    """The book of runs. Jobs write into it from other processes; tests read.

    Parameters
    ----------
    url:
        A database of the shared test server, as libpq reads it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True)
        self._mutex = threading.Lock()

    def create(self) -> None:
        """Make the tables."""
        self._connection.execute(_TABLES)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    # What jobs do

    def started(self, number: int, process: int, lock: str | None = None) -> None:
        """A job begins."""
        self._write(number, process, lock, "start")

    def ended(self, number: int, process: int, lock: str | None = None) -> None:
        """A job is about to return."""
        self._write(number, process, lock, "end")

    def is_gate_open(self, name: str) -> bool:
        """Whether what waits at this gate may go on."""
        return bool(self._all("SELECT 1 FROM gates WHERE name = %s", name))

    # What tests do

    def open_gate(self, name: str) -> None:
        """Let go on what waits there, now and later."""
        self._all("INSERT INTO gates VALUES (%s) ON CONFLICT DO NOTHING RETURNING name", name)

    def entries(self) -> list[Entry]:
        """All, in order."""
        return [Entry(*row) for row in self._all("SELECT number, lock, process, moment FROM entries ORDER BY place")]

    def starts(self, number: int | None = None) -> int:
        """How many runs were started, of one job or of all."""
        return sum(one.moment == "start" and number in (None, one.number) for one in self.entries())

    def first_start_after(self, seconds: float) -> float:
        """Return the time of the first start after a time. Both are in seconds since 1970."""
        found = "SELECT extract(epoch FROM min(at)) FROM entries WHERE moment = 'start' AND at > to_timestamp(%s)"
        return float(self._all(found, seconds)[0][0])

    def finished(self) -> set[int]:
        """The jobs of which some run came to its end."""
        return {number for (number,) in self._all("SELECT DISTINCT number FROM entries WHERE moment = 'end'")}

    def run_again(self) -> int:
        """How many jobs were started more than once."""
        return self._count_repeated("start")

    def _count_repeated(self, moment: str) -> int:
        repeated = "SELECT number FROM entries WHERE moment = %s GROUP BY 1 HAVING count(*) > 1"
        return len(self._all(repeated, moment))

    def _write(self, number: int, process: int, lock: str | None, moment: str) -> None:
        insert = "INSERT INTO entries (number, lock, process, moment) VALUES (%s, %s, %s, %s) RETURNING place"
        self._all(insert, number, lock, process, moment)

    def _all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._mutex:
            return self._connection.execute(statement, parameters).fetchall()


def overlaps(entries: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
    """Where a job of a lock began while another was under way. A process that was killed ends what it ran."""
    open_runs: dict[str, Entry] = {}
    found = []
    for entry in entries:
        if entry.lock is None:
            continue
        if entry.moment == "end":
            open_runs.pop(entry.lock, None)
        else:
            before = open_runs.get(entry.lock)
            if before is not None and before.number != entry.number:
                found.append((before, entry))
            open_runs[entry.lock] = entry
    return found


def out_of_order(entries: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
    """Where a job of a lock ended before one that had been deferred earlier."""
    last: dict[str, Entry] = {}
    found = []
    for entry in entries:
        if entry.lock is None or entry.moment != "end":
            continue
        before = last.get(entry.lock)
        if before is not None and before.number > entry.number:
            found.append((before, entry))
        last[entry.lock] = entry
    return found


def cut_off(entries: Iterable[Entry]) -> int:
    """Count the runs that did not come to their end, and after which the job started again."""
    under_way: set[int] = set()
    found = 0
    for entry in entries:
        if entry.moment == "end":
            under_way.discard(entry.number)
        else:
            found += entry.number in under_way
            under_way.add(entry.number)
    return found
