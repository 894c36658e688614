"""Invariants of the tables that hold whenever no operation is running."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from procrastinate import core
from procrastinate.core.tables import events, holds_lock, is_parked, is_upcoming, jobs, starts, windows
from tests.conformance.runs import Run

_NONE: Mapping[int, int] = {}
_ENDED = {"succeeded", "failed", "cancelled", "aborted"}

# For each event, the statuses before it and the status after it.
_BECOMES: dict[str, tuple[set[str | None], str]] = {
    "deferred": ({None}, "todo"),
    "started": ({"todo"}, "doing"),
    "deferred_for_retry": ({"doing"}, "todo"),
    "retried": ({"failed"}, "todo"),
    "succeeded": ({"todo", "doing"}, "succeeded"),
    "failed": ({"todo", "doing"}, "failed"),
    "aborted": ({"todo", "doing"}, "aborted"),
    "cancelled": ({"todo"}, "cancelled"),
}


def list_rows(connection: sa.Connection) -> dict[int, dict[str, Any]]:
    """List all columns of all jobs by id, as an operation."""
    rows = connection.execute(sa.select(jobs).order_by(jobs.c.id)).mappings()
    return {row["id"]: {**row, "status": row["status"].value} for row in rows}


def list_histories(connection: sa.Connection) -> dict[int, list[str]]:
    """List the types of each job's events in order, as an operation."""
    found: dict[int, list[str]] = {}
    for job_id, event_type in connection.execute(sa.select(events.c.job_id, events.c.type).order_by(events.c.id)):
        found.setdefault(job_id, []).append(event_type.value)
    return found


def check_invariants(
    run: Run, released: Mapping[int, int] = _NONE, lowered: Mapping[str, int] = MappingProxyType({})
) -> dict[int, dict[str, Any]]:
    """Check all invariants of the rows and their histories, and return the rows.

    Parameters
    ----------
    released:
        The number of releases of each job, by id. Starts of released jobs are no attempts.
    lowered:
        Limits that may have been lowered, and the number of slots that jobs of a key may still have.
    """
    rows, histories = run(list_rows), run(list_histories)
    assert histories.keys() == rows.keys()
    check_one_each("lock", (row["lock"] for row in rows.values() if _holds_lock(row)))
    limits = run(core.list_limits)
    check_limits(rows.values(), limits, lowered)
    check_rates(run(list_starts), limits)
    check_one_each("queueing_lock", (row["queueing_lock"] for row in rows.values() if row["status"] == "todo"))
    for job_id, row in rows.items():
        check_row(row)
        check_history(row, histories[job_id], released.get(job_id, 0))
    return rows


def _holds_lock(row: dict[str, Any]) -> bool:
    return row["status"] == "doing" or (row["status"] == "todo" and row["readiness"] == core.Readiness.PROMOTED)


def check_one_each(name: str, values: Iterable[str | None]) -> None:
    """Check that no two jobs have the same value."""
    doubled = [value for value, count in Counter(values).items() if value is not None and count > 1]
    assert doubled == [], f"{name} is had by two jobs at once"


def check_limits(
    rows: Iterable[dict[str, Any]],
    limits: Sequence[core.StoredLimit],
    lowered: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Check that no limit is exceeded, and that only jobs with a limit are in line."""
    by_name = {limit.name: limit for limit in limits}
    by_key: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["limit_name"] is not None and _holds_lock(row):
            by_key[row["limit_name"], row["limit_key"]] += row["limit_weight"] or 1
        if row["limit_name"] is None:
            assert row["readiness"] != core.Readiness.IN_LINE, row
        elif row["status"] == "todo":
            assert row["scheduled_at"] is not None, row
    for (name, key), held in by_key.items():
        concurrency = by_name[name].concurrency
        assert concurrency is None or held <= max(concurrency, lowered.get(name, 0)), (name, key, held)
    for limit in limits:
        assert limit.total is None or limit.held <= limit.total, limit


def list_starts(connection: sa.Connection) -> list[tuple[str, str, datetime.datetime]]:
    """Return the limit, the key and the time of each start that a rate counts, in the order of the times.

    A heavy job is as many starts as its weight.
    """
    query = sa.select(starts.c.limit_name, starts.c.limit_key, starts.c.at, starts.c.weight).order_by(starts.c.at)
    return [
        (row.limit_name, row.limit_key, row.at) for row in connection.execute(query) for _ in range(row.weight or 1)
    ]


def check_rates(started: Iterable[tuple[str, str, datetime.datetime]], limits: Sequence[core.StoredLimit]) -> None:
    """Check that no window of a rate has more starts than the rate says, whichever start it begins at."""
    by_key: dict[tuple[str, str], list[datetime.datetime]] = {}
    of_all: dict[str, list[datetime.datetime]] = {}
    for name, key, at in started:
        by_key.setdefault((name, key), []).append(at)
        of_all.setdefault(name, []).append(at)
    for limit in limits:
        for rate in limit.total_rates:
            _check_windows(of_all.get(limit.name, []), rate)
        for rate in limit.rates:
            for times in (times for (name, _), times in by_key.items() if name == limit.name):
                _check_windows(times, rate)


def _check_windows(times: Sequence[datetime.datetime], rate: core.RateTerms) -> None:
    for first, one_too_many in zip(times, times[rate.count :], strict=False):
        assert one_too_many - first >= datetime.timedelta(seconds=rate.seconds), (rate, first, one_too_many)


def check_row(row: dict[str, Any]) -> None:
    """Check that the columns of a job are consistent."""
    assert (row["finished_at"] is not None) == (row["status"] in _ENDED), row
    if row["status"] == "todo":
        assert (row["worker_id"], row["abort_requested"]) == (None, False), row
    if row["status"] == "doing":
        assert row["worker_id"] is not None, row
    if row["status"] in _ENDED:
        assert not row["abort_requested"], row
    assert 0 <= row["rescues"] <= row["attempts"], row


def check_history(row: dict[str, Any], history: Sequence[str], released: int) -> None:
    """Check that the events lead to the job's status, and that the number of starts fits the attempts.

    Each start counts as an attempt, except that of the current run and those of released jobs.
    """
    status: str | None = None
    for event in history:
        if event in _BECOMES:
            before, after = _BECOMES[event]
            assert status in before, (event, history, row)
            status = after
    assert status == row["status"], (history, row)
    assert row["attempts"] == history.count("started") - (status == "doing") - released, (history, row)


def come_to_rest(run: Run) -> None:
    """Promote and sweep, like workers, until nothing is left to decide."""
    for _ in range(50):
        while (promotion := run(core.promote_jobs)).again or (promotion.has_openings and run(core.admit_jobs).again):
            pass
        if run(core.sweep_parked_jobs).unparked == 0:
            return
    raise AssertionError("promotion and sweep come to no end")


def check_rest(run: Run) -> None:
    """Check that each waiting job has a reason: its time has not come, its lock is held, its limit is full."""
    assert run(_count_forgotten) == (0, 0), "jobs are parked behind a free lock, or due and not looked at"
    assert run(core.sweep_lines).opened == 0, "jobs are in line of a limit that has room"


def _count_forgotten(connection: sa.Connection) -> tuple[int, int]:
    holder = jobs.alias("holder")
    is_held = sa.select(holder.c.id).where(holder.c.lock == jobs.c.lock, holds_lock(holder)).exists()
    is_due = sa.or_(jobs.c.scheduled_at.is_(None), jobs.c.scheduled_at <= sa.func.now())
    counts = sa.select(
        sa.func.count().filter(is_parked() & ~is_held), sa.func.count().filter(is_upcoming() & is_due)
    ).select_from(jobs)
    parked, upcoming = connection.execute(counts).one()
    return parked, upcoming


def drain(run: Run, *, released: Mapping[int, int] = _NONE, max_runs: int = 200) -> list[int]:
    """Rescue lost jobs, make all jobs due, run all waiting jobs, and return their ids in the order of the runs."""
    run(_forget_workers)
    while run(core.rescue_jobs, max_rescues=1_000):
        pass
    run(_make_due)  # again: a job that ran may have been rescheduled
    worker_id = run(core.register_worker)
    ran: list[int] = []
    for _ in range(max_runs):
        run(_let_windows_pass)
        come_to_rest(run)
        check_rest(run)
        fetched = run(core.fetch_jobs, worker_id=worker_id, limit=100)
        if not fetched:
            break
        outcomes = [core.FinishedJob(id=job.id, attempts=job.attempts, status=core.Status.SUCCEEDED) for job in fetched]
        assert run(core.finish_jobs, outcomes, worker_id=worker_id) == {job.id for job in fetched}
        ran += [job.id for job in fetched]
    waiting = [row for row in check_invariants(run, released).values() if row["status"] in ("todo", "doing")]
    assert waiting == [], "these will never run"
    return ran


def _forget_workers(connection: sa.Connection) -> None:
    connection.execute(sa.delete(core.metadata.tables["procrastinate_workers"]))


def _let_windows_pass(connection: sa.Connection) -> None:
    """Let a day go by since the last start, so that the rates let jobs start again."""
    connection.execute(sa.update(starts).values(at=starts.c.at - datetime.timedelta(days=1)))
    connection.execute(sa.update(windows).values(opens_at=sa.func.now()))


def _make_due(connection: sa.Connection) -> None:
    long_ago = sa.text("'2020-01-01Z'::timestamptz")
    waits = sa.and_(jobs.c.status == sa.text("'todo'"), jobs.c.scheduled_at > sa.func.now())
    connection.execute(sa.update(jobs).where(waits).values(scheduled_at=long_ago))
