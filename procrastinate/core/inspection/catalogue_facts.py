"""What the catalogues and statistics of the server say.

Every role may read them, but for the state of other roles' sessions.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import sqlalchemy as sa

from procrastinate._durations import duration
from procrastinate.core.promote import turn_key
from procrastinate.core.tables import jobs


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A session of the database, and for how many seconds its transaction has been open."""

    pid: int
    application: str
    state: str | None
    seconds: float

    def __str__(self) -> str:
        application = f" ({self.application!r})" if self.application else ""
        return f"server process {self.pid}{application}, {self.state or 'state unknown'}, {duration(self.seconds)}"


_SESSION = """
SELECT DISTINCT activity.pid, coalesce(activity.application_name, '') AS application, activity.state,
    coalesce(extract(epoch FROM now() - activity.xact_start), 0)::float8 AS seconds
"""
_ROW_LOCK = sa.text(
    _SESSION
    + """
FROM procrastinate_jobs AS job
JOIN pg_locks AS held ON held.locktype = 'transactionid' AND held.granted AND held.transactionid = job.xmax
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE job.id = :job_id AND activity.pid <> pg_backend_pid()
LIMIT 5
"""
)
_WRITERS = sa.text(
    _SESSION  # noqa: S608
    + """
FROM pg_locks AS held
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'relation' AND held.granted AND held.mode = 'RowExclusiveLock'
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.relation = to_regclass('procrastinate_jobs')
    AND activity.pid <> pg_backend_pid() AND activity.xact_start < now() - interval '1 second'
ORDER BY 4 DESC
LIMIT 5
"""
)
_PROMOTERS = sa.text(
    _SESSION  # noqa: S608
    + """
FROM pg_locks AS held
JOIN pg_stat_activity AS activity ON activity.pid = held.pid
WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid::bigint = :space AND held.objid = to_regclass('procrastinate_jobs')::oid
    AND activity.pid <> pg_backend_pid() AND coalesce(activity.xact_start, now()) < now() - interval '5 seconds'
LIMIT 5
"""
)


def _sessions(connection: sa.Connection, statement: sa.TextClause, **values: Any) -> list[Session]:
    return [Session(**row._mapping) for row in connection.execute(statement, values)]


def find_row_lockers(connection: sa.Connection, job_id: int) -> list[Session]:
    """Return the sessions whose open transaction has locked or changed the row of a job."""
    return _sessions(connection, _ROW_LOCK, job_id=job_id)


def find_writers(connection: sa.Connection) -> list[Session]:
    """Return the sessions with a transaction that has written jobs and is open for longer than a second."""
    return _sessions(connection, _WRITERS)


def find_promoters(connection: sa.Connection) -> list[Session]:
    """Return the sessions that have had the turn of promotions for more than five seconds."""
    return _sessions(connection, _PROMOTERS, space=turn_key())


_PREPARED_TRANSACTIONS = sa.text(
    "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared LIMIT 5"
)
_SEQUENCE = sa.text("SELECT coalesce(pg_sequence_last_value('procrastinate_jobs_id_seq'::regclass), 0)")
_TRIGGERS_OFF = sa.text(
    "SELECT tgname::text FROM pg_trigger WHERE tgrelid = to_regclass('procrastinate_jobs') AND NOT tgisinternal "
    "AND tgenabled NOT IN ('O', 'A')"
)
_TRIGGERS = sa.text(
    "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass('procrastinate_jobs') AND NOT tgisinternal"
)
_INDEXES = sa.text(
    "SELECT relname::text AS name, indisvalid AND indisready AS works FROM pg_index "
    "JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass('procrastinate_jobs')"
)
_SERVER = sa.text(
    "SELECT pg_is_in_recovery() AS is_standby, current_setting('session_replication_role') AS role, "
    "current_setting('default_transaction_read_only') AS read_only, "
    "(SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL) AS connections, "
    "current_setting('max_connections')::int AS max_connections"
)
_BLOAT = sa.text(
    "SELECT n_live_tup AS live, n_dead_tup AS dead, "
    "(SELECT max(age(backend_xmin)) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL) AS xmin_age "
    "FROM pg_stat_all_tables WHERE relid = to_regclass('procrastinate_jobs')"
)


def list_prepared_transactions(connection: sa.Connection) -> list[str]:
    """Return the names of prepared transactions of this database."""
    return list(connection.execute(_PREPARED_TRANSACTIONS).scalars())


def read_last_id(connection: sa.Connection) -> int:
    """Return the highest id that the sequence has given out."""
    return int(connection.execute(_SEQUENCE).scalar_one())


def list_triggers_off(connection: sa.Connection) -> list[str]:
    """Return the triggers of the jobs that are disabled. An empty name stands for triggers that are missing."""
    if connection.execute(_TRIGGERS).scalar_one() == 0:
        return [""]
    return list(connection.execute(_TRIGGERS_OFF).scalars())


def list_indexes_off(connection: sa.Connection) -> list[str]:
    """Return the indexes of the jobs that are missing or invalid."""
    works = {row.name: row.works for row in connection.execute(_INDEXES)}
    return sorted(str(index.name) for index in jobs.indexes if not works.get(index.name))


def read_server(connection: sa.Connection) -> Any:
    """Return whether the server takes writes, and how many of its connections are in use."""
    return connection.execute(_SERVER).one()


def read_bloat(connection: sa.Connection) -> Any:
    """Return the live and dead rows of the jobs, and the age of the oldest snapshot, as PostgreSQL estimates them."""
    return connection.execute(_BLOAT).one_or_none()


_ZONE = sa.text("SELECT extract(timezone FROM now())::float8")


def list_zones(connection: sa.Connection) -> list[tuple[str, float]]:
    """Return the time zones of this machine and of the session, with their distance from UTC in seconds."""
    session = float(connection.execute(_ZONE).scalar_one())
    return [("this machine", float(time.localtime().tm_gmtoff)), ("the database", session)]
