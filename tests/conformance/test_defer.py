"""Putting jobs into the table."""

from __future__ import annotations

import contextlib
import json
import random
import string
import time
from typing import Any

import pytest

from procrastinate import core
from procrastinate.core import Status, TickOutcome
from tests.conformance.runs import Run
from tests.conformance.steps import (
    FUTURE,
    Rollback,
    defer,
    fetch_ids,
    fetch_one,
    finish,
    list_tick_jobs,
    query,
    settle,
    stored,
    worker,
)
from tests.database import new_job


def count(run: Run) -> int:
    """How many jobs there are."""
    return len(run(core.list_jobs, core.JobFilter()))


def test_a_job_is_stored_as_given(run: Run) -> None:
    job_id = defer(
        run,
        queue_name="mail",
        task_name="send",
        args='{"to": ["é", "%s", ":x"], "half": 0.5, "none": null}',
        priority=-3,
        lock="lock",
        queueing_lock="queueing lock",
        scheduled_at=FUTURE,
    )
    job = stored(run, job_id)
    assert json.loads(job.args) == {"to": ["é", "%s", ":x"], "half": 0.5, "none": None}
    assert (job.queue_name, job.task_name, job.priority) == ("mail", "send", -3)
    assert (job.lock, job.queueing_lock, job.scheduled_at) == ("lock", "queueing lock", FUTURE)
    assert (job.status, job.attempts, job.abort_requested, job.worker_id) == (Status.TODO, 0, False, None)


@pytest.mark.needs_database(reason="it looks into the JSON with SQL")
def test_arguments_are_stored_as_a_json_object_and_not_as_a_string(run: Run) -> None:
    job_id = defer(run, args='{"a": {"b": 1}}')
    assert run(query, "SELECT args -> 'a' ->> 'b' FROM procrastinate_jobs WHERE id = :id", id=job_id) == [("1",)]


def test_a_taken_queueing_lock_gives_no_id(run: Run) -> None:
    defer(run, queueing_lock="q")
    assert run(core.defer_job, new_job(queueing_lock="q")) is None
    assert count(run) == 1


def test_a_taken_queueing_lock_leaves_the_transaction_usable(run: Run) -> None:
    defer(run, queueing_lock="q")
    with run.transaction():
        assert run(core.defer_job, new_job(queueing_lock="q")) is None
        assert run(core.defer_jobs, [new_job(queueing_lock="q")]) == []
        defer(run)
    assert count(run) == 2


def test_a_queueing_lock_is_free_again_once_its_job_has_started(run: Run) -> None:
    defer(run, queueing_lock="q")
    fetch_one(run, worker(run))
    assert run(core.defer_job, new_job(queueing_lock="q")) is not None


@pytest.mark.needs_database(reason="it rolls back")
def test_a_job_vanishes_with_the_transaction(run: Run) -> None:
    with contextlib.suppress(Rollback), run.transaction():
        defer(run)
        run(core.defer_jobs_or_none, [new_job(), new_job()])
        raise Rollback
    assert count(run) == 0


def test_many_jobs_get_their_ids_in_order(run: Run) -> None:
    ids = run(core.defer_jobs, [new_job(task_name=f"task {number}") for number in range(50)])
    assert [stored(run, job_id).task_name for job_id in ids] == [f"task {number}" for number in range(50)]


def test_many_jobs_are_stored_as_given(run: Run) -> None:
    new_jobs = [new_job(), new_job(lock="l", queueing_lock="q", scheduled_at=FUTURE, priority=7, args='{"a": "%"}')]
    plain, full = (stored(run, job_id) for job_id in run(core.defer_jobs, new_jobs))
    assert (plain.lock, plain.queueing_lock, plain.scheduled_at, plain.args) == (None, None, None, "{}")
    assert (full.lock, full.queueing_lock, full.scheduled_at, full.args) == ("l", "q", FUTURE, '{"a": "%"}')
    assert full.priority == 7


def test_jobs_that_are_alike_get_their_ids_in_order(run: Run) -> None:
    all_args = [f'{{"number": {number}, "text": "%s [é\\"], {{"}}' for number in range(50)]
    pattern = new_job(queue_name="mail", task_name="send", lock="l", scheduled_at=FUTURE, priority=7)
    ids = run(core.defer_jobs_alike, pattern, all_args)
    jobs = [stored(run, job_id) for job_id in ids]
    assert [json.loads(job.args) for job in jobs] == [json.loads(args) for args in all_args]
    assert {
        (job.queue_name, job.task_name, job.lock, job.queueing_lock, job.scheduled_at, job.priority) for job in jobs
    } == {("mail", "send", "l", None, FUTURE, 7)}


def test_jobs_that_are_alike_may_be_larger_than_one_json_value(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procrastinate.core.defer._LARGEST_TEXT", 20)
    ids = run(core.defer_jobs_alike, new_job(queue_name="mail"), ['{"number": 1}', '{"number": 2}'])
    assert [(stored(run, job_id).args, stored(run, job_id).queue_name) for job_id in ids] == [
        ('{"number": 1}', "mail"),
        ('{"number": 2}', "mail"),
    ]


def test_no_jobs_are_deferred_without_a_statement(run: Run) -> None:
    assert run(core.defer_jobs, []) == []
    assert run(core.defer_jobs_or_none, []) == []
    assert run(core.defer_jobs_alike, new_job(), []) == []


def test_many_jobs_leave_out_those_whose_queueing_lock_is_taken(run: Run) -> None:
    defer(run, queueing_lock="q")
    ids = run(core.defer_jobs, [new_job(queueing_lock="q"), new_job(queueing_lock="r"), new_job(queueing_lock="r")])
    assert [stored(run, job_id).queueing_lock for job_id in ids] == ["r"]


def test_all_jobs_or_none_inserts_all(run: Run) -> None:
    ids = run(core.defer_jobs_or_none, [new_job(queueing_lock="q"), new_job(queueing_lock="r")])
    assert ids is not None
    assert [stored(run, job_id).queueing_lock for job_id in ids] == ["q", "r"]


def test_all_jobs_or_none_inserts_none(run: Run) -> None:
    defer(run, queueing_lock="q")
    assert run(core.defer_jobs_or_none, [new_job(), new_job(queueing_lock="q")]) is None
    assert count(run) == 1


def test_all_jobs_or_none_leaves_the_transaction_usable(run: Run) -> None:
    defer(run, queueing_lock="q")
    with run.transaction():
        before = defer(run)
        assert run(core.defer_jobs_or_none, [new_job(), new_job(queueing_lock="q")]) is None
        after = defer(run)
    assert count(run) == 3
    assert stored(run, before).status == stored(run, after).status == Status.TODO


def test_the_first_taken_queueing_lock_is_named(run: Run) -> None:
    run(core.defer_jobs, [new_job(queueing_lock="a"), new_job(queueing_lock="b")])
    assert run(core.find_taken_queueing_lock, ["free", "b", "a"]) == "b"
    assert run(core.find_taken_queueing_lock, ["free"]) is None
    assert run(core.find_taken_queueing_lock, []) is None


def test_a_tick_is_deferred_once(run: Run) -> None:
    first = run(core.defer_tick, new_job(), periodic_id="id", defer_timestamp=100)
    again = run(core.defer_tick, new_job(), periodic_id="id", defer_timestamp=100)
    assert first == TickOutcome(job_id=1)
    assert again == TickOutcome(job_id=None)
    assert count(run) == 1


def test_ticks_differ_by_task_and_id_and_time(run: Run) -> None:
    outcomes = [
        run(core.defer_tick, new_job(task_name=task), periodic_id=periodic_id, defer_timestamp=timestamp)
        for task, periodic_id, timestamp in (("a", "", 1), ("b", "", 1), ("a", "x", 1), ("a", "", 2))
    ]
    assert all(outcome.job_id is not None for outcome in outcomes)


def defer_renamed(run: Run, name: str, former: str, timestamp: int, **options: Any) -> int | None:
    """Defer a tick of a task that had another name, and return its job."""
    job = new_job(task_name=name)
    tick = {"periodic_id": "id", "defer_timestamp": timestamp, "former_names": [former], **options}
    return run(core.defer_tick, job, **tick).job_id


def test_a_tick_that_was_deferred_under_a_former_name_is_not_deferred_again(run: Run) -> None:
    now = int(time.time())
    first = run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now)
    assert defer_renamed(run, "new", "old", now) is None
    assert run(list_tick_jobs) == [first.job_id] * 2, "the tick is known under both names"
    assert defer_renamed(run, "new", "old", now + 60) is not None
    assert count(run) == 2


def test_a_program_that_knows_the_former_name_only_does_not_defer_the_tick_again(run: Run) -> None:
    """Workers of both releases run during a rolling deploy."""
    now = int(time.time())
    run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now - 60)
    job_id = defer_renamed(run, "new", "old", now)
    again = run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now)
    assert job_id is not None
    assert again == TickOutcome(job_id=None)
    assert [tick for tick in run(list_tick_jobs) if tick == job_id] == [job_id, job_id]


def test_a_former_name_is_no_longer_looked_at_some_time_after_the_change(run: Run) -> None:
    now = int(time.time())
    run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now - 1000)
    assert defer_renamed(run, "new", "old", now - 900, keep_for=600) is not None
    rows = len(run(list_tick_jobs))
    assert defer_renamed(run, "new", "old", now, keep_for=600) is not None
    assert len(run(list_tick_jobs)) == rows + 1


def test_a_name_that_was_rolled_back_for_long_has_to_settle_again(run: Run) -> None:
    """A task is renamed, gets its former name back for longer than ticks are kept, and is renamed again."""
    now = int(time.time())
    run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now - 1000)
    assert defer_renamed(run, "new", "old", now - 900, keep_for=600) is not None
    for ago in (800, 100, 60):
        rolled_back = run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now - ago)
        assert rolled_back.job_id is not None
    assert defer_renamed(run, "new", "old", now - 60, keep_for=600) is None, "the last tick has run"
    assert defer_renamed(run, "new", "old", now - 30, keep_for=600) is not None
    late = run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now - 30)
    assert late == TickOutcome(job_id=None), "a worker of the older release does not run it again"

    assert defer_renamed(run, "new", "old", now, keep_for=20) is not None
    again = run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now)
    assert again.job_id is not None, "the new name has settled"


def test_a_tick_that_one_of_two_former_names_has_gives_the_others_its_job(run: Run) -> None:
    now = int(time.time())
    taken = run(core.defer_tick, new_job(task_name="older"), periodic_id="id", defer_timestamp=now)
    other = run(core.defer_tick, new_job(task_name="oldest"), periodic_id="id", defer_timestamp=now - 60)
    tick: dict[str, Any] = {"periodic_id": "id", "defer_timestamp": now, "former_names": ["oldest", "older"]}
    assert run(core.defer_tick, new_job(task_name="new"), **tick) == TickOutcome(job_id=None)
    assert run(list_tick_jobs) == [taken.job_id, other.job_id, taken.job_id, taken.job_id]


def test_a_tick_that_its_own_name_has_gives_the_former_name_its_job(run: Run) -> None:
    now = int(time.time())
    taken = run(core.defer_tick, new_job(task_name="new"), periodic_id="id", defer_timestamp=now)
    other = run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now - 60)
    assert defer_renamed(run, "new", "old", now) is None
    assert run(list_tick_jobs) == [taken.job_id, other.job_id, taken.job_id]


def test_a_tick_that_may_have_been_forgotten_leaves_its_claims_without_a_job(run: Run) -> None:
    now = int(time.time())
    run(core.defer_tick, new_job(task_name="new"), periodic_id="id", defer_timestamp=now)
    run(core.defer_tick, new_job(task_name="old"), periodic_id="id", defer_timestamp=now - 2000)
    known = run(list_tick_jobs)
    assert defer_renamed(run, "new", "old", now - 1000, keep_for=600) is None
    assert run(list_tick_jobs) == [*known, None]


def test_a_former_name_without_ticks_and_another_schedule_do_not_matter(run: Run) -> None:
    run(core.defer_tick, new_job(task_name="old"), periodic_id="another", defer_timestamp=100)
    assert defer_renamed(run, "new", "old", 100) is not None
    assert defer_renamed(run, "newer", "never", 100) is not None
    assert len(run(list_tick_jobs)) == 3


def defer_ticks(run: Run, *timestamps: int, keep_for: float, periodic_id: str = "id") -> list[bool]:
    """Defer ticks, and say of each whether it was new."""
    outcomes = [
        run(core.defer_tick, new_job(), periodic_id=periodic_id, defer_timestamp=timestamp, keep_for=keep_for)
        for timestamp in timestamps
    ]
    return [outcome.job_id is not None for outcome in outcomes]


def test_old_ticks_are_forgotten_but_for_the_newest_of_them(run: Run) -> None:
    """Whatever happens, there are as many rows as there were ticks while they are kept, one, and the new one."""
    now, minute = int(time.time()), 60
    recent = [now - 3 * minute, now - 2 * minute, now - minute]
    defer_ticks(run, 100, 200, 300, keep_for=10 * minute, periodic_id="another")
    assert all(defer_ticks(run, *range(1000, 1010), *recent, keep_for=10 * minute))
    assert len(run(list_tick_jobs)) == 2 + 1 + len(recent)
    assert count(run) == 3 + 10 + len(recent), "their jobs stay"


def test_a_tick_that_was_forgotten_is_not_deferred_again(run: Run) -> None:
    """A worker that was frozen for long would think that it is new."""
    now = int(time.time())
    defer_ticks(run, 1000, 1060, 1120, now, keep_for=600)
    assert defer_ticks(run, 1000, 1030, 1060, 1119, 1120, now, keep_for=600) == [False] * 6


def test_the_last_tick_is_deferred_however_old_it_is(run: Run) -> None:
    """And in order those that came before it: that is how a worker makes up for them."""
    assert defer_ticks(run, 1000, 1060, 1120, 1120, keep_for=600) == [True, True, True, False]


def test_a_tick_that_is_kept_may_come_after_a_later_one(run: Run) -> None:
    """Two workers that do not see the same: each makes up for what is missing."""
    now = int(time.time())
    assert defer_ticks(run, now, now - 300, now - 400, now - 300, now - 1000, keep_for=600) == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_many_old_ticks_are_forgotten_in_steps(run: Run) -> None:
    """A hundred a tick: no statement is long."""
    now = int(time.time())
    assert all(defer_ticks(run, *range(now - 250, now), keep_for=600))
    for new, left in ((1, 151), (2, 52), (3, 2)):
        assert defer_ticks(run, now + new, keep_for=-1000) == [True]
        assert len(run(list_tick_jobs)) == left


def test_a_tick_keeps_the_id_of_its_job(run: Run) -> None:
    outcome = run(core.defer_tick, new_job(), periodic_id="id", defer_timestamp=100)
    assert run(list_tick_jobs) == [outcome.job_id]
    assert outcome.job_id is not None
    assert stored(run, outcome.job_id).status == Status.TODO


def test_a_tick_whose_queueing_lock_is_taken_counts_as_deferred(run: Run) -> None:
    defer(run, queueing_lock="q")
    outcome = run(core.defer_tick, new_job(queueing_lock="q"), periodic_id="id", defer_timestamp=100)
    assert outcome == TickOutcome(job_id=None, queueing_lock_taken=True)
    assert run(list_tick_jobs) == [None]

    job = fetch_one(run, worker(run))
    finish(run, job)
    again = run(core.defer_tick, new_job(queueing_lock="q"), periodic_id="id", defer_timestamp=100)
    assert again == TickOutcome(job_id=None)


def test_a_deleted_job_is_forgotten_by_its_tick(run: Run) -> None:
    outcome = run(core.defer_tick, new_job(), periodic_id="id", defer_timestamp=100)
    assert outcome.job_id is not None
    run(core.cancel_job, outcome.job_id, delete=True)
    assert run(list_tick_jobs) == [None]


def test_the_longest_lock_fits_its_index(run: Run) -> None:
    """2,600 bytes, which do not compress."""
    lock = "".join(random.Random(1).choices(string.printable, k=2600))
    job_id = defer(run, lock=lock, queueing_lock=lock)
    settle(run)
    assert fetch_ids(run, worker(run)) == [job_id]
