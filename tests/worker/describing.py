"""Says how a queue and its workers stand, for the failure of a test that waited in vain."""

from __future__ import annotations

import asyncio
import gc

import sqlalchemy as sa

from procrastinate.worker.fetch.fetch_loop import FetchLoop

_MOST_ROWS = 20
_QUERIES = {
    "jobs that have not ended": """
        SELECT id, status::text, queue_name, task_name, lock, limit_name, limit_key, priority, readiness, scheduled_at,
            attempts, worker_id, abort_requested
        FROM procrastinate_jobs WHERE status IN ('todo', 'doing') ORDER BY id
    """,
    "workers": "SELECT *, now() - last_heartbeat AS silent_for FROM procrastinate_workers ORDER BY id",
    "statements and transactions": """
        SELECT pid, application_name, state, wait_event_type, wait_event, pg_blocking_pids(pid) AS blocked_by,
            clock_timestamp() - xact_start AS in_transaction_for, clock_timestamp() - query_start AS since,
            left(regexp_replace(query, '\\s+', ' ', 'g'), 300) AS query
        FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        ORDER BY pid
    """,
    "advisory locks": "SELECT pid, classid, objid, granted FROM pg_locks WHERE locktype = 'advisory' ORDER BY pid",
    "last events": "SELECT job_id, type::text, at FROM procrastinate_events ORDER BY id DESC",
    "the clock": "SELECT clock_timestamp()",
}


def describe(connection: sa.Connection) -> str:
    """Return the rows, the statements of the database and the last looks of the workers of this process."""
    return "\n".join([*_describe_database(connection), *_describe_workers()])


def _describe_database(connection: sa.Connection) -> list[str]:
    lines = []
    for name, query in _QUERIES.items():
        lines.append(f"{name}:")
        rows = connection.execute(sa.text(query)).mappings().fetchmany(_MOST_ROWS)
        lines += ["  " + ", ".join(f"{key}={value}" for key, value in row.items()) for row in rows]
    return lines


def fetch_loops() -> list[FetchLoop]:
    """Return the fetch loops of the workers of this process that start jobs."""
    return [one for one in gc.get_objects() if type(one) is FetchLoop and not one._board.is_stopping]


def _describe_workers() -> list[str]:
    now = asyncio.get_running_loop().time()
    return [line for loop in fetch_loops() for line in _describe_loop(loop, now)]


def _describe_loop(loop: FetchLoop, now: float) -> list[str]:
    looks, fetched_at = loop._looks, loop.fetcher.fetched_at
    timers = {name: round(timer.when() - now, 3) for name, timer in looks._timers.items()}
    return [
        f"fetch loop of worker {loop._board.worker_id}:",
        f"  room={loop._pool.room()}, woken={loop._board.woken.is_set()}, notices={loop._board._notices}",
        f"  fetch due={looks.is_fetch_due}, promotion due={looks.is_promotion_due}, timers in seconds={timers}",
        f"  called={loop._call.is_made}, heard={loop._call.is_heard}, looks by itself={loop._call.looks_by_itself}",
        f"  last fetch {'never' if fetched_at is None else f'{now - fetched_at:.3f} s ago'}, "
        f"last promotion {now - loop._promoter._last:.3f} s ago, next stock in {loop._stock.due_in:.3f} s",
        f"  open fetch={loop.fetcher.open_fetch is not None}, last failure={loop.failures.last}",
    ]
