"""The loads behind the dashboard and ``app.inspect``."""

from __future__ import annotations

import datetime

import pytest
import sqlalchemy as sa

from procrastinate import core
from procrastinate.core import (
    FinishedJob,
    JobRetry,
    LimitDefinition,
    NewError,
    Status,
    UniqueJob,
    UniqueKey,
    inspection,
)
from procrastinate.core.inspection import Count, JobSearch, JobState
from procrastinate.core.tables import jobs
from tests.conformance.runs import Run
from tests.conformance.steps import FUTURE, HOUR, PAST, change, defer, fetch, fetch_one, finish, query, settle, worker
from tests.database import new_job

pytestmark = pytest.mark.needs_database(reason="the loads have no in-memory form")

ERROR = NewError(exception_class="shop.errors.Refused", message="order 42 refused", traceback="Traceback")


def ids(run: Run, search: JobSearch, **options: object) -> list[int]:
    """Return the ids of a page of jobs."""
    return [job.id for job in run(inspection.list_jobs_page, search, **options).jobs]  # type: ignore[arg-type]


def fail(run: Run, job: core.StoredJob, error: NewError = ERROR) -> None:
    """Record a final failure with its error."""
    assert job.worker_id is not None
    outcome = FinishedJob(id=job.id, attempts=job.attempts, status=Status.FAILED, error=error)
    assert run(core.finish_jobs, [outcome], worker_id=job.worker_id) == {job.id}


def one_in_each_state(run: Run) -> dict[JobState, int]:
    """Make a job in each state, and return their ids."""
    worker_id = worker(run)
    made = {}
    for state, status in (
        (JobState.SUCCEEDED, Status.SUCCEEDED),
        (JobState.ABORTED, Status.ABORTED),
        (JobState.FAILED, Status.FAILED),
    ):
        made[state] = defer(run)
        finish(run, fetch_one(run, worker_id), status=status)
    made[JobState.CANCELLED] = defer(run)
    run(core.cancel_job, made[JobState.CANCELLED])
    made[JobState.RUNNING] = defer(run, lock="a lock", queue_name="first")
    fetch_one(run, worker_id)
    made[JobState.BLOCKED] = defer(run, lock="a lock")
    settle(run)
    run(core.define_limits, [LimitDefinition(name="none", concurrency=0)])
    made[JobState.LIMITED] = defer(run, limit_name="none", limit_key="key")
    made[JobState.WAITING_FOR_STEPS] = run(_add_step)
    made[JobState.READY] = defer(run)
    made[JobState.SCHEDULED] = defer(run, scheduled_at=FUTURE)
    return made


def _add_step(connection: sa.Connection) -> int:
    """Add a step that waits for other steps."""
    step = {"queue_name": "default", "task_name": "task", "scheduled_at": sa.text("'infinity'"), "readiness": 5}
    return int(connection.execute(sa.insert(jobs).values(**step).returning(jobs.c.id)).scalar_one())


def test_each_state_lists_its_jobs(run: Run) -> None:
    made = one_in_each_state(run)
    for state in JobState:
        (job,) = run(inspection.list_jobs_page, JobSearch(state=state)).jobs
        assert (job.id, job.state, job.never_due) == (made[state], state, False)
    waiting = {job_id for state, job_id in made.items() if state.is_waiting}
    assert {job.id for job in run(core.list_jobs, core.JobFilter(status=Status.TODO))} == waiting
    assert {call.first_job_id for call in run(inspection.load_waiting_calls).calls} == {min(waiting)}
    assert sum(call.count for call in run(inspection.load_waiting_calls).calls) == len(waiting)
    assert ids(run, JobSearch()) == sorted(made.values(), reverse=True)


def test_the_overview_counts_each_state(run: Run) -> None:
    one_in_each_state(run)
    overview = run(inspection.load_overview)
    one = Count(number=1)
    assert overview.waiting == dict.fromkeys([state for state in JobState if state.is_waiting], one)
    assert (overview.running, overview.stalled, overview.workers_alive) == (one, Count(number=0), 1)
    assert overview.ended == dict.fromkeys(
        (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.ABORTED), one
    )
    assert len(overview.minutes) == 60
    last = overview.minutes[-2:]
    assert sum(minute.succeeded for minute in last) == sum(minute.failed for minute in last) == 1
    assert sum(minute.other for minute in last) == 2


def test_pages_of_every_state_hold_each_job_once(run: Run) -> None:
    worker_id = worker(run)
    for number in range(7):
        defer(run, lock=f"lock {number % 3}", priority=number % 2)
    settle(run)
    for number in range(5):
        defer(run, scheduled_at=FUTURE + number % 2 * HOUR, priority=number % 3)
        defer(run, priority=number % 3)
        defer(run, priority=number % 3, limit_name="undefined", limit_key=f"key {number % 2}")
        run(_add_step)
    finish(run, *fetch(run, worker_id, limit=4), status=Status.FAILED)
    fetch(run, worker_id, limit=3)
    for state in (None, *JobState):
        search = JobSearch(state=state)
        whole = ids(run, search)
        paged: list[int] = []
        place = None
        while True:
            page = run(inspection.list_jobs_page, search, limit=2, after=place)
            paged += [job.id for job in page.jobs]
            place = page.next_place
            if place is None:
                break
        assert paged == whole, state


def test_a_search_finds_jobs_by_each_criterion(run: Run) -> None:
    found = defer(
        run, queue_name="mail", task_name="shop.send", lock="a", queueing_lock="b", args='{"order": 42, "to": ["x"]}'
    )
    defer(run, queue_name="post", task_name="shop.print", lock="c", queueing_lock="d", args='{"order": 420}')
    for search in (
        JobSearch(queue="mail"),
        JobSearch(task="shop.send"),
        JobSearch(lock="a"),
        JobSearch(queueing_lock="b"),
        JobSearch(word="p.sen"),
        JobSearch(args='{"order": 42}'),
        JobSearch(args='{"to": ["x"]}'),
        JobSearch(state=JobState.SCHEDULED, queue="mail", args='{"order": 42}'),
    ):
        assert ids(run, search) == [found], search
    assert ids(run, JobSearch(word="%")) == ids(run, JobSearch(args='{"order": 4}')) == []


@pytest.mark.parametrize(
    "search",
    [
        JobSearch(queue="\ud800"),
        JobSearch(queue="\ud800", state=JobState.READY),
        JobSearch(lock="a\0", state=JobState.BLOCKED),
        JobSearch(worker_id=2**63, state=JobState.RUNNING),
        JobSearch(word="\ud800"),
        JobSearch(error="a\0"),
        JobSearch(args='{"a": "\ud800"}'),
    ],
    ids=ascii,
)
def test_a_search_for_what_no_row_can_have_finds_no_job(run: Run, search: JobSearch) -> None:
    defer(run)
    assert ids(run, search) == []


def test_names_that_no_row_can_have_stop_no_page(run: Run) -> None:
    job = defer(run)
    assert ids(run, JobSearch(without_tasks=("\ud800",))) == [job]
    assert [queue.name for queue in run(inspection.load_queues, ["a\0", "mail"]).queues] == ["default", "mail"]
    assert run(inspection.load_periodic, [("\ud800", "")]).schedules == ()


def test_a_search_by_error_takes_the_path_or_the_name_of_the_class(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    fail(run, job)
    for name, found in (("shop.errors.Refused", [job.id]), ("Refused", [job.id]), ("efused", [])):
        assert ids(run, JobSearch(state=JobState.FAILED, error=name)) == found


def test_a_listed_job_tells_its_times_and_its_last_error(run: Run) -> None:
    defer(run)
    job = fetch_one(run, worker(run))
    fail(run, job)
    (listed,) = run(inspection.list_jobs_page, JobSearch()).jobs
    assert listed.deferred_at is not None
    assert listed.started_at is not None
    assert listed.finished_at is not None
    assert listed.deferred_at <= listed.started_at <= listed.finished_at
    assert (listed.error_class, listed.error_message) == (ERROR.exception_class, ERROR.message)


def test_the_page_of_a_job_holds_its_history(run: Run) -> None:
    defer(run, args='{"a": 1}')
    worker_id = worker(run)
    job = fetch_one(run, worker_id)
    run(core.retry_jobs, [JobRetry(id=job.id, attempts=0, error=ERROR)], worker_id=worker_id)
    job = fetch_one(run, worker_id)
    outcome = FinishedJob(id=job.id, attempts=1, status=Status.SUCCEEDED, result='{"b": 2}')
    run(core.finish_jobs, [outcome], worker_id=worker_id)
    details = run(inspection.load_job, job.id)
    assert details is not None
    assert (details.job.args, details.result, details.has_result) == ('{"a": 1}', '{"b": 2}', True)
    assert [(one.attempt, one.message) for one in details.errors] == [(1, ERROR.message)]
    events = [event.type.value for event in details.events if event.type]
    assert events == ["succeeded", "started", "scheduled", "deferred_for_retry", "started", "deferred"]
    assert run(inspection.load_job, job.id + 1) is None


def test_a_blocked_job_knows_the_holder_of_its_lock_and_its_place(run: Run) -> None:
    defer(run, lock="a lock", task_name="holder")
    holder = fetch_one(run, worker(run))
    first, second = defer(run, lock="a lock"), defer(run, lock="a lock")
    settle(run)
    details = run(inspection.load_job, second)
    assert details is not None
    assert details.holder is not None
    assert (details.holder.id, details.holder.task_name) == (holder.id, "holder")
    assert details.line == Count(number=1)
    of_holder = run(inspection.load_job, holder.id)
    assert of_holder is not None
    assert of_holder.line == Count(number=2)
    (lock,) = run(inspection.load_locks).locks
    assert (lock.lock, lock.waiting, lock.first_waiting_id) == ("a lock", Count(number=2), first)
    assert lock.holder == details.holder


def test_a_lock_tells_for_how_long_its_holder_runs(run: Run) -> None:
    """A holder that is ready again after a run does not run."""
    defer(run, lock="a lock")
    worker_id = worker(run)
    holder = fetch_one(run, worker_id)
    defer(run, lock="a lock")
    settle(run)
    details = run(inspection.load_job, holder.id)
    assert details is not None
    (lock,) = run(inspection.load_locks).locks
    assert lock.running_since is not None
    assert lock.running_since == details.job.started_at
    run(core.release_jobs, [core.FetchedJob(id=holder.id, attempts=holder.attempts)], worker_id=worker_id)
    settle(run)
    (lock,) = run(inspection.load_locks).locks
    assert lock.holder is not None
    assert (lock.holder.state, lock.running_since) == (JobState.READY, None)


def test_the_page_of_a_job_shows_its_unique_key(run: Run) -> None:
    job = UniqueJob(job=new_job(), unique=UniqueKey(key="k", until="start", max_wait=60))
    (job_id,) = run(core.defer_unique_job, job, on_conflict="raise").ids
    details = run(inspection.load_job, job_id)
    assert details is not None
    key = details.unique_key
    assert key is not None
    assert (key.key, key.until, key.expires_at, key.is_held) == ("k", "start", None, True)
    assert key.start_by is not None
    fetch_one(run, worker(run))
    details = run(inspection.load_job, job_id)
    assert details is not None
    assert details.unique_key is not None
    assert not details.unique_key.is_held
    other = run(inspection.load_job, defer(run))
    assert other is not None
    assert other.unique_key is None


def test_large_arguments_are_left_out(run: Run) -> None:
    large = defer(run, args='{"a": "%s"}' % ("x" * 200_000))
    endless = defer(run, args='{"a": 1e131071}')
    for job in run(inspection.list_jobs_page, JobSearch()).jobs:
        assert job.args is None
    for job_id in (large, endless):
        details = run(inspection.load_job, job_id)
        assert details is not None
        assert details.job.args is None
    whole = run(inspection.load_whole_arguments, large)
    assert whole is not None
    assert len(whole) > 200_000


def test_rows_that_no_release_writes_are_shown(run: Run) -> None:
    job_id = defer(run)
    change(run, job_id, args=[1, 2])
    run(query, "UPDATE procrastinate_jobs SET scheduled_at = 'infinity', lock = '<script>'")
    (job,) = run(inspection.list_jobs_page, JobSearch()).jobs
    assert (job.args, job.never_due, job.scheduled_at, job.lock) == ("[1, 2]", True, None, "<script>")
    run(query, "UPDATE procrastinate_jobs SET status = 'failed', finished_at = '-infinity', readiness = 7")
    (job,) = run(inspection.list_jobs_page, JobSearch(state=JobState.FAILED)).jobs
    assert (job.finished_at, job.never_due) == (None, False)
    assert run(inspection.load_job, job_id) is not None
    run(inspection.load_overview)
    run(inspection.load_tasks)
    run(query, "UPDATE procrastinate_jobs SET status = 'aborting'")
    (job,) = run(inspection.list_jobs_page, JobSearch()).jobs
    assert job.state is JobState.RUNNING


def test_queues_count_their_jobs_and_know_the_oldest(run: Run) -> None:
    one_in_each_state(run)
    defer(run, queue_name="other")
    defer(run, queue_name="other", priority=1)
    answer = run(inspection.load_queues, ["known"])
    queues = {queue.name: queue for queue in answer.queues}
    assert list(queues) == ["default", "first", "known", "other"]
    assert queues["other"].ready == Count(number=2)
    assert queues["known"].ready == queues["first"].ready == Count(number=0)
    default = queues["default"]
    assert default.counts == {state: Count(number=state.is_waiting) for state in default.counts}
    assert default.has_waiting
    assert not queues["known"].has_waiting
    assert queues["first"].running == Count(number=1)
    oldest = queues["other"].oldest_ready_at
    assert oldest is not None
    assert answer.now - oldest < datetime.timedelta(minutes=1)


def test_tasks_tell_how_their_last_jobs_went(run: Run) -> None:
    worker_id = worker(run)
    for status in (Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED):
        defer(run, task_name="shop.send")
        finish(run, fetch_one(run, worker_id), status=status)
    defer(run, task_name="shop.wait")
    send, wait = run(inspection.load_tasks).tasks
    assert (send.name, send.succeeded, send.failed, send.waiting) == ("shop.send", 2, 1, Count(number=0))
    assert send.median_seconds is not None
    assert 0 <= send.median_seconds <= (send.slowest_seconds or 0)
    assert (wait.name, wait.waiting, wait.last_ended_at) == ("shop.wait", Count(number=1), None)


def test_tasks_and_overview_count_what_workers_tell(run: Run) -> None:
    """Workers may delete jobs at their end."""
    histogram = "ARRAY[0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"
    values = f"60, date_trunc('minute', now()), 'q', 'shop.send', 'succeeded', 10, 1, {histogram}, {histogram}"
    run(
        query,
        "INSERT INTO procrastinate_statistics (seconds, at, queue_name, task_name, outcome, count, run_seconds, "
        f"run_histogram, wait_histogram) SELECT {values}",
    )
    (task,) = run(inspection.load_tasks).tasks
    assert task.hour is not None
    assert (task.hour.succeeded, task.hour.median_run, task.hour.longest_wait) == (10, 0.025, 0.5)
    assert sum(minute.succeeded for minute in run(inspection.load_overview).minutes) == 10


def test_the_median_of_a_task_belongs_to_the_time_of_most_of_its_runs(run: Run) -> None:
    """The last jobs that ended may have run long before the runs of the last hour."""
    job_id = defer(run, task_name="shop.send")
    finish(run, fetch_one(run, worker(run)), status=Status.SUCCEEDED)
    run(query, f"UPDATE procrastinate_events SET at = at - interval '1 minute' WHERE job_id = {job_id}")  # noqa: S608
    (before,) = run(inspection.load_tasks).tasks
    assert before.median_run == before.median_seconds
    histogram = "ARRAY[0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"
    values = f"60, date_trunc('minute', now()), 'q', 'shop.send', 'succeeded', 10, 1, {histogram}, {histogram}"
    run(
        query,
        "INSERT INTO procrastinate_statistics (seconds, at, queue_name, task_name, outcome, count, run_seconds, "
        f"run_histogram, wait_histogram) SELECT {values}",
    )
    (task,) = run(inspection.load_tasks).tasks
    assert task.hour is not None
    assert (task.median_run, task.hour.longest_run) == (0.025, 0.025)
    assert (task.median_seconds or 0) > 59


def test_retried_counts_the_runs_that_led_to_another_one(run: Run) -> None:
    """The metrics count them, too."""
    for status, attempts in (("succeeded", 3), ("failed", 2), ("succeeded", 1), ("cancelled", 1), ("cancelled", 0)):
        job_id = defer(run, task_name="shop.send")
        changed = f"status = '{status}', attempts = {attempts}, finished_at = now()"
        run(query, f"UPDATE procrastinate_jobs SET {changed} WHERE id = {job_id}")  # noqa: S608
    (task,) = run(inspection.load_tasks).tasks
    assert task.retried == 4


def test_failures_group_errors_that_differ_in_numbers(run: Run) -> None:
    worker_id = worker(run)
    for number in (1, 22):
        defer(run, task_name="shop.send")
        message = f"order {number} of 0f8fad5b-d9cb-469f-a165-70867728950e\nsecond line {number}"
        fail(run, fetch_one(run, worker_id), NewError(exception_class="A", message=message, traceback=""))
    last = defer(run, task_name="shop.print")
    fail(run, fetch_one(run, worker_id), NewError(exception_class="B", message="out of paper", traceback=""))
    run(core.retry_job_by_id, last)
    failures = run(inspection.load_failures)
    paper, order = failures.groups
    assert failures.looked_at == Count(number=3)
    assert (order.message, order.count, order.jobs, order.still_failed) == ("order # of #", 2, 2, 2)
    assert (paper.tasks, paper.last_job_id, paper.still_failed) == (("shop.print",), last, 0)


def test_periodic_tasks_show_their_last_ticks(run: Run) -> None:
    now = int(run(core.read_clock))
    for number in range(7):
        job = core.NewJob(queue_name="q", task_name="tick", args="{}")
        run(core.defer_tick, job, periodic_id="", defer_timestamp=now + number)
    known, tick = run(inspection.load_periodic, [("a task", "an id")]).schedules
    assert (known.task_name, known.periodic_id, known.ticks) == ("a task", "an id", ())
    assert [one.at.timestamp() for one in tick.ticks if one.at] == [now + 6, now + 5, now + 4, now + 3, now + 2]
    assert tick.ticks[0].status is Status.TODO


def test_workers_alive_silent_and_gone_are_told_apart(run: Run) -> None:
    alive, silent, gone = worker(run), worker(run), worker(run)
    for worker_id in (alive, gone):
        defer(run)
        fetch_one(run, worker_id)
    run(query, "UPDATE procrastinate_workers SET last_heartbeat = :past WHERE id = :id", past=PAST, id=silent)
    run(core.unregister_worker, gone)
    answer = run(inspection.load_workers)
    told = {one.id: (one.is_registered, one.is_alive, one.holds.number) for one in answer.workers}
    assert told == {alive: (True, True, 1), silent: (True, False, 0), gone: (False, False, 1)}
    assert run(inspection.load_overview).stalled == Count(number=1)


def test_a_worker_tells_what_it_is(run: Run) -> None:
    worker_id = worker(run)
    told = "UPDATE procrastinate_workers SET name = 'mailer', queues = ARRAY['mail'], concurrency = 4, running = 2"
    run(query, told)
    (one,) = run(inspection.load_workers).workers
    assert (one.id, one.name, one.queues, one.concurrency, one.running) == (worker_id, "mailer", ("mail",), 4, 2)
    mail, post = run(inspection.load_queues, ["mail", "post"]).queues
    assert (mail.served_by, mail.slots, post.served_by) == (1, 4, 0)
    run(query, "UPDATE procrastinate_workers SET queues = '{}'")
    (post,) = run(inspection.load_queues, ["post"]).queues
    assert post.served_by == 1


def test_a_paused_queue_tells_why(run: Run) -> None:
    run(
        query,
        "INSERT INTO procrastinate_paused_queues (queue_name, reason, paused_by) VALUES ('mail', 'repair', 'ada')",
    )
    over = "VALUES ('post', now() - interval '1 second')"
    run(query, f"INSERT INTO procrastinate_paused_queues (queue_name, paused_until) {over}")
    mail, post = run(inspection.load_queues, ["post"]).queues
    assert mail.pause is not None
    assert (mail.pause.reason, mail.pause.by, mail.pause.until) == ("repair", "ada", None)
    assert post.pause is None


def test_the_system_knows_its_tables(run: Run) -> None:
    system = run(inspection.load_system)
    assert "procrastinate_jobs" in {table.name for table in system.tables}
    assert (system.is_standby, system.may_change_jobs) == (False, True)
    assert system.schema == "public"


def test_the_rows_of_a_table_are_not_known_before_it_is_analysed(run: Run) -> None:
    def rows() -> int | None:
        return next(table.rows for table in run(inspection.load_system).tables if table.name == "procrastinate_jobs")

    defer(run)
    run(query, "UPDATE pg_class SET reltuples = -1 WHERE relname = 'procrastinate_jobs'")
    assert rows() is None
    run(query, "UPDATE pg_class SET reltuples = 7 WHERE relname = 'procrastinate_jobs'")
    assert rows() == 7


def test_a_load_leaves_the_settings_of_the_users_transaction(run: Run) -> None:
    def settings() -> list[tuple[object, ...]]:
        return run(query, "SELECT current_setting('statement_timeout'), current_setting('enable_seqscan')")

    with run.transaction():
        run(query, "SELECT set_config('statement_timeout', '7000', true)")
        run(inspection.load_overview)
        assert settings() == [("7s", "on")]
