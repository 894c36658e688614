"""Deferring jobs with unique keys: who holds a key, how long, and what a job in the way leads to."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest

from procrastinate import core
from procrastinate._checks.times import utcnow
from procrastinate.core import JobRetry, Status, TakenKey, UniqueDefer, UniqueJob, UniqueKey
from procrastinate.core.unique_keys import Until
from procrastinate.types import OnConflict
from tests.conformance.kinds import KINDS, Kind
from tests.conformance.runs import Run
from tests.conformance.steps import HOUR, change, fetch, fetch_one, finish, list_tick_jobs, stored, worker
from tests.database import new_job

CHOSEN = ("sync-psycopg", "async-asyncpg", "django", "memory")


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind.name in CHOSEN], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """A kind of connection. The statements are the same for all, so these few will do."""
    kind: Kind = request.param
    return kind


def unique_job(
    key: str = "k",
    until: Until = "start",
    *,
    period: float | None = None,
    max_wait: float | None = None,
    **job: Any,
) -> UniqueJob:
    unique = UniqueKey(key=key, until=until if period is None else "period", period=period, max_wait=max_wait)
    return UniqueJob(job=new_job(**job), unique=unique)


def defer(run: Run, job: UniqueJob, on_conflict: OnConflict = "raise") -> int | None:
    """Defer one job, and return its id, or ``None`` if another job is in the way."""
    deferred = run(core.defer_unique_job, job, on_conflict=on_conflict)
    assert (deferred.taken is None) == (len(deferred.ids) == 1)
    return deferred.ids[0] if deferred.ids else None


def test_a_key_that_waits_names_its_job(run: Run) -> None:
    first = defer(run, unique_job())
    assert defer(run, unique_job("another key")) != first
    refused = run(core.defer_unique_job, unique_job(until="end"), on_conflict="raise")
    assert refused == UniqueDefer(taken=TakenKey(key="k", job_id=first, until="start"))


@pytest.mark.parametrize("until", ["start", "end"])
def test_a_key_is_free_when_its_job_has_started_or_ended(run: Run, until: Until) -> None:
    first = defer(run, unique_job(until=until))
    running = fetch_one(run, worker(run))
    second = defer(run, unique_job(until=until))
    assert (second is None) == (until == "end")
    finish(run, running)
    third = defer(run, unique_job(until=until))
    assert (third is None) == (until == "start")
    assert len({first, second, third} - {None}) == 2


@pytest.mark.parametrize("until", ["start", "end"])
def test_a_retry_holds_the_key_again(run: Run, until: Until) -> None:
    first = defer(run, unique_job(until=until))
    worker_id = worker(run)
    running = fetch_one(run, worker_id)
    run(core.retry_jobs, [JobRetry(id=running.id, attempts=0)], worker_id=worker_id)
    assert defer(run, unique_job(until=until)) is None
    assert defer(run, unique_job(until=until), "skip") == first


def test_a_retry_whose_key_was_taken_leaves_it(run: Run) -> None:
    defer(run, unique_job())
    worker_id = worker(run)
    running = fetch_one(run, worker_id)
    second = defer(run, unique_job())
    run(core.retry_jobs, [JobRetry(id=running.id, attempts=0)], worker_id=worker_id)
    assert stored(run, running.id).status is Status.TODO
    assert defer(run, unique_job(), "skip") == second


def test_a_failed_job_that_is_retried_by_hand_holds_its_key_again(run: Run) -> None:
    first = defer(run, unique_job(until="end"))
    assert first is not None
    finish(run, fetch_one(run, worker(run)), status=Status.FAILED)
    run(core.retry_job_by_id, first)
    assert defer(run, unique_job(until="end"), "skip") == first


def test_a_period_lasts_whatever_becomes_of_the_job(run: Run) -> None:
    job = unique_job(period=3600)
    first = defer(run, job)
    assert first is not None
    finish(run, fetch_one(run, worker(run)), delete=True)
    refused = run(core.defer_unique_job, job, on_conflict="raise").taken
    assert refused is not None
    assert (refused.job_id, refused.until) == (first, "period")
    assert refused.expires_at is not None
    assert abs(refused.expires_at - utcnow() - HOUR) < datetime.timedelta(minutes=5)
    assert defer(run, job, "skip") == first
    assert defer(run, job, "replace") is None


def test_the_next_period_begins_with_the_next_job(run: Run) -> None:
    job = unique_job(period=1e-6)
    first, second = defer(run, job), defer(run, job)
    assert None not in (first, second)
    assert first != second


def test_replace_overwrites_a_job_that_waits(run: Run) -> None:
    first = defer(run, unique_job(until="end", args='{"a": 1}', lock="one"))
    assert first is not None
    replacement = unique_job(until="end", args='{"a": 2}', lock="two", priority=3, queue_name="q", task_name="other")
    assert defer(run, replacement, "replace") == first
    job = stored(run, first)
    assert (job.args, job.lock, job.priority, job.queue_name, job.task_name) == ('{"a": 2}', "two", 3, "q", "other")


def test_replace_refuses_a_job_that_runs(run: Run) -> None:
    first = defer(run, unique_job(until="end"))
    fetch_one(run, worker(run))
    refused = run(core.defer_unique_job, unique_job(until="end"), on_conflict="replace")
    assert refused == UniqueDefer(taken=TakenKey(key="k", job_id=first, until="end"))


def test_replacements_delay_a_job_no_longer_than_its_first_max_wait(run: Run) -> None:
    now = utcnow()
    later = [now + datetime.timedelta(minutes=minutes) for minutes in (1, 30, 90)]
    first = defer(run, unique_job(max_wait=3600, scheduled_at=later[0]), "replace")
    assert first is not None
    assert stored(run, first).scheduled_at == later[0]
    defer(run, unique_job(max_wait=3600, scheduled_at=later[1]), "replace")
    assert stored(run, first).scheduled_at == later[1]
    defer(run, unique_job(scheduled_at=later[2]), "replace")
    scheduled_at = stored(run, first).scheduled_at
    assert scheduled_at is not None
    assert abs(scheduled_at - now - HOUR) < datetime.timedelta(minutes=5)
    defer(run, unique_job(max_wait=3600), "replace")
    assert stored(run, first).scheduled_at is None


def test_a_batch_raises_for_all_of_its_jobs(run: Run) -> None:
    first = defer(run, unique_job("b"))
    batch = [unique_job("a"), unique_job("b"), UniqueJob(job=new_job(), unique=None)]
    refused = run(core.defer_unique_jobs, batch, on_conflict="raise")
    assert refused == UniqueDefer(taken=TakenKey(key="b", job_id=first, until="start"))
    twice = run(core.defer_unique_jobs, [unique_job("a"), unique_job("a")], on_conflict="raise")
    assert twice == UniqueDefer(taken=TakenKey(key="a"))
    assert [job.id for job in run(core.list_jobs, core.JobFilter())] == [first]


@pytest.mark.parametrize(("on_conflict", "left"), [("skip", "first"), ("replace", "last")])
def test_a_batch_has_an_id_for_each_job_in_order(run: Run, on_conflict: OnConflict, left: str) -> None:
    waiting = defer(run, unique_job("w", task_name="waiting"))
    batch = [
        UniqueJob(job=new_job(task_name="no key"), unique=None),
        unique_job("z", task_name="first"),
        unique_job("w", task_name="new"),
        unique_job("a", task_name="a"),
        unique_job("z", task_name="last"),
        UniqueJob(job=new_job(task_name="no key either"), unique=None),
    ]
    ids = run(core.defer_unique_jobs, batch, on_conflict=on_conflict).ids
    names = [stored(run, job_id).task_name for job_id in ids]
    held = "waiting" if on_conflict == "skip" else "new"
    assert names == ["no key", left, held, "a", left, "no key either"]
    assert ids[2] == waiting
    assert len(set(ids)) == 5


def test_a_tick_whose_key_is_taken_counts_as_deferred(run: Run) -> None:
    tick = {"periodic_id": "", "on_conflict": "raise"}
    first = run(core.defer_unique_tick, unique_job(until="end"), defer_timestamp=1, **tick)
    assert first.job_id is not None
    second = run(core.defer_unique_tick, unique_job(until="end"), defer_timestamp=2, **tick)
    assert second.taken == TakenKey(key="k", job_id=first.job_id, until="end")
    assert run(core.defer_unique_tick, unique_job("new"), defer_timestamp=2, **tick) == core.TickOutcome(job_id=None)
    skipped = run(core.defer_unique_tick, unique_job(), periodic_id="", defer_timestamp=3, on_conflict="skip")
    assert skipped == core.TickOutcome(job_id=first.job_id)


def test_a_unique_tick_that_was_deferred_under_a_former_name_is_not_deferred_again(run: Run) -> None:
    tick: dict[str, Any] = {"periodic_id": "", "on_conflict": "raise"}
    now = int(time.time())
    run(core.defer_unique_tick, unique_job("old", task_name="old"), defer_timestamp=now - 60, **tick)
    renamed = unique_job("new", task_name="new")
    late = run(core.defer_unique_tick, renamed, defer_timestamp=now - 60, former_names=["old"], **tick)
    assert late == core.TickOutcome(job_id=None)
    next_one = run(core.defer_unique_tick, renamed, defer_timestamp=now, former_names=["old"], **tick)
    assert next_one.job_id is not None
    of_old = run(core.defer_unique_tick, unique_job("old", task_name="old"), defer_timestamp=now, **tick)
    assert of_old == core.TickOutcome(job_id=None)


def test_a_unique_tick_that_is_not_deferred_has_no_job_of_its_own(run: Run) -> None:
    tick: dict[str, Any] = {"periodic_id": "", "on_conflict": "raise"}
    now = int(time.time())
    older, oldest = (
        run(core.defer_unique_tick, unique_job(name, task_name=name), defer_timestamp=timestamp, **tick).job_id
        for name, timestamp in (("older", now), ("oldest", now - 60))
    )
    tick["former_names"] = ["oldest", "older"]
    late = run(core.defer_unique_tick, unique_job("new", task_name="new"), defer_timestamp=now, **tick)
    assert late == core.TickOutcome(job_id=None)
    assert run(list_tick_jobs) == [older, oldest, older, older]

    held = run(core.defer_unique_tick, unique_job("older", task_name="new"), defer_timestamp=now + 60, **tick)
    assert held.taken is not None
    assert run(list_tick_jobs)[4:] == [None, None, None]


@pytest.mark.needs_database(reason="it reads the table of ticks")
def test_a_tick_has_the_job_that_holds_its_key(run: Run) -> None:
    waiting = defer(run, unique_job())
    run(core.defer_unique_tick, unique_job(), periodic_id="", defer_timestamp=1, on_conflict="replace")
    assert run(list_tick_jobs) == [waiting]


def test_a_key_can_be_looked_at_and_freed(run: Run) -> None:
    first = defer(run, unique_job(until="end"))
    assert run(core.find_unique_key, "k") == TakenKey(key="k", job_id=first, until="end")
    assert run(core.free_unique_key, "k")
    assert run(core.find_unique_key, "k") is None
    assert not run(core.free_unique_key, "k")
    second = defer(run, unique_job(until="end"))
    assert second not in (None, first)
    fetched = fetch(run, worker(run))
    finish(run, *fetched)
    assert run(core.find_unique_key, "k") is None


def test_a_sweep_deletes_what_no_job_can_hold_again(run: Run) -> None:
    kept, ended, deleted = (defer(run, unique_job(key, "end")) for key in ("kept", "ended", "deleted"))
    assert None not in (kept, ended, deleted)
    defer(run, unique_job("over", period=1e-6))
    defer(run, unique_job("lasts", period=3600))
    change(run, ended, status=Status.SUCCEEDED, finished_at=utcnow())
    run(core.cancel_job, deleted, delete=True)
    sweep = run(core.sweep_unique_keys, limit=2)
    assert (sweep.seen, sweep.deleted, sweep.reached) == (2, 0, ended)
    rest = run(core.sweep_unique_keys, after=sweep.reached)
    assert (rest.seen, rest.deleted, rest.reached) == (3, 2, None)
    assert run(core.sweep_unique_keys).seen == 3


def test_no_key_and_no_pause_outlives_the_deletion_of_everything(run: Run) -> None:
    assert defer(run, unique_job("lasts", period=3600)) is not None
    run(core.pause_queue, "mail")
    run(core.delete_everything)
    assert run(core.get_pauses) == {}
    assert defer(run, unique_job("lasts", period=3600)) is not None
