"""Operations in any order on several connections, compared with a simple model. Hypothesis shrinks failures."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from procrastinate import core
from procrastinate.core import FetchedJob, FinishedJob, JobRetry, NewJob, Status, errors
from tests.conformance import steps
from tests.conformance.runs import SyncRun
from tests.conformance.steps import FUTURE, HOUR, PAST
from tests.database import new_job
from tests.invariants import check_invariants, check_rest, come_to_rest, drain
from tests.properties.model import Job, Model

P = ParamSpec("P")
R = TypeVar("R")

QUEUES = ("a", "b")
CONCURRENCY, TOTAL = 3, 2
LIMIT = core.LimitDefinition(name="limit", concurrency=CONCURRENCY)
LIMIT_OF_ALL = core.LimitDefinition(name="limit of all", total=TOTAL)
RATED = core.LimitDefinition(
    name="rated", rates=(core.RateTerms(count=2, seconds=3600),), total_rates=(core.RateTerms(count=5, seconds=7200),)
)
FAIR = core.LimitDefinition(name="fair", fair=True)

hypothesis.settings.register_profile(
    "short", max_examples=30, stateful_step_count=50, deadline=None, derandomize=True, database=None
)
hypothesis.settings.register_profile(
    "long", max_examples=300, stateful_step_count=80, deadline=None, database=None, print_blob=True
)
SETTINGS = hypothesis.settings(
    hypothesis.settings.get_profile("long" if os.environ.get("PROCRASTINATE_TESTS_LONG") else "short"),
    suppress_health_check=list(hypothesis.HealthCheck),
)

_COLUMNS: dict[str, Any] = {
    "queue_name": st.sampled_from(QUEUES),
    "priority": st.sampled_from((0, 0, 1, -1)),
    "queueing_lock": st.sampled_from((None, None, "q", "r")),
    "scheduled_at": st.sampled_from((None, None, PAST, FUTURE)),
}
new_jobs = st.one_of(
    st.builds(new_job, lock=st.sampled_from((None, "l", "m")), **_COLUMNS),
    st.builds(
        new_job,
        limit_name=st.just(LIMIT.name),
        limit_key=st.sampled_from(("j", "k", "k", "k")),
        limit_weight=st.sampled_from((None, None, 2, 3)),
        lock=st.sampled_from((None, None, "n")),
        **_COLUMNS,
    ),
    st.builds(new_job, limit_name=st.just(LIMIT_OF_ALL.name), limit_key=st.sampled_from(("j", "k", "o")), **_COLUMNS),
    st.builds(
        new_job,
        limit_name=st.sampled_from((RATED.name, FAIR.name)),
        limit_key=st.sampled_from(("j", "k")),
        limit_weight=st.sampled_from((None, None, 2)),
        **_COLUMNS,
    ),
)
callers = st.sampled_from(range(3))
picks = st.integers(0, 50)
limits = st.sampled_from((1, 3, 500))
queues = st.sampled_from((None, ("a",), ("b",), QUEUES))
ends = st.sampled_from((Status.SUCCEEDED, Status.FAILED, Status.ABORTED))


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A job that a worker believes it runs. The worker may have been pruned since."""

    id: int
    attempts: int
    worker_id: int


class AnyOrder(RuleBasedStateMachine):
    """Three callers with a connection each, and a user whose transaction may lock a row."""

    def __init__(self, engines: list[sa.Engine]) -> None:
        super().__init__()
        self.runs = [SyncRun(engine) for engine in engines[:3]]
        self.user = engines[3].connect()
        self.watch = self.runs[0]
        self.model = Model()
        self.fetched: list[Fetched] = []
        self.ticks = 0
        self.concurrency = CONCURRENCY
        self.had_slots: dict[str, set[int]] = {}
        self.most_slots = 0
        self.watch(steps.query, _EMPTY)

    @initialize(batch=st.lists(new_jobs, min_size=4, max_size=8))
    def start_with_two_workers_and_some_jobs(self, batch: list[NewJob]) -> None:
        self.register()
        self.register()
        self.watch(core.define_limits, [LIMIT, LIMIT_OF_ALL, RATED, FAIR])
        self.defer_those_that_may_be(0, batch)

    # Callers

    def register(self) -> None:
        """Start a worker. A fair limit has more slots then, which the sweep of the worker opens."""
        self.model.workers.add(self.watch(core.register_worker))
        self._sweep()

    @rule(caller=callers, new=new_jobs)
    def defer(self, caller: int, new: NewJob) -> None:
        job_id = self.runs[caller](core.defer_job, new)
        assert (job_id is not None) == bool(self.model.accepted([new]))
        if job_id is None:
            assert new.queueing_lock is not None
            assert self.watch(core.find_taken_queueing_lock, [new.queueing_lock]) == new.queueing_lock
        else:
            self.model.insert(job_id, new)

    # All rules are equally likely, so rare actions share a rule and jobs run often.

    @rule(
        caller=callers,
        batch=st.lists(new_jobs, min_size=1, max_size=4),
        way=st.sampled_from(("all or none", "those that may be", "or find", "or replace")),
    )
    def defer_many(self, caller: int, batch: list[NewJob], way: str) -> None:
        ways = {
            "all or none": self.defer_all_or_none,
            "those that may be": self.defer_those_that_may_be,
            "or find": self.defer_or_find,
            "or replace": self.defer_or_replace,
        }
        ways[way](caller, batch)

    @rule(caller=callers, pick=picks, action=st.sampled_from(("cancel", "retry", "finish", "reschedule", "forget")))
    def meddle(self, caller: int, pick: int, action: str) -> None:
        """Change a job by hand, like a user. `pick` also selects the details."""
        is_even, is_third = pick % 2 == 0, pick % 3 == 0
        if action == "cancel":
            self.cancel(caller, pick, abort=is_even, delete=is_third)
        elif action == "retry":
            self.retry_by_hand(caller, pick, FUTURE if is_third else None, "l" if is_even else None)
        elif action == "finish":
            self.finish_by_id(caller, pick, Status.FAILED if is_even else Status.SUCCEEDED, delete=is_third)
        elif action == "reschedule":
            self.reschedule_with_plain_sql(caller, pick, is_due=is_even)
        else:
            self.forget_an_old_one(caller, pick)

    def defer_all_or_none(self, caller: int, batch: list[NewJob]) -> None:
        ids = self.runs[caller](core.defer_jobs_or_none, batch)
        assert (ids is not None) == (len(self.model.accepted(batch)) == len(batch))
        for job_id, new in zip(ids or [], batch, strict=ids is not None):
            self.model.insert(job_id, new)

    def defer_those_that_may_be(self, caller: int, batch: list[NewJob]) -> None:
        ids = self.runs[caller](core.defer_jobs, batch)
        for job_id, new in zip(ids, self.model.accepted(batch), strict=True):
            self.model.insert(job_id, new)

    def defer_or_find(self, caller: int, batch: list[NewJob]) -> None:
        ids = self.runs[caller](core.defer_jobs_or_skip, batch)
        assert ids is not None
        self._compare_ids(ids, batch)

    def defer_or_replace(self, caller: int, batch: list[NewJob]) -> None:
        last = {new.queueing_lock: new for new in batch if new.queueing_lock is not None}
        waiting = {lock: self.model.waiting_under(lock) for lock in last}
        replaced = [job for job in waiting.values() if job is not None]
        ids = self._wait_for_user(replaced, caller, core.defer_jobs_or_replace, batch)
        if ids is None:
            return
        self._compare_ids(ids, [new if new.queueing_lock is None else last[new.queueing_lock] for new in batch])
        for lock, job in waiting.items():
            if job is not None:
                self.model.replace(job, last[lock])

    def _compare_ids(self, ids: list[int], batch: list[NewJob]) -> None:
        """Check that new jobs have new ids, and that a waiting job with the queueing lock keeps its id."""
        inserted: dict[int, NewJob] = {}
        for job_id, new in zip(ids, batch, strict=True):
            waiting = self.model.waiting_under(new.queueing_lock)
            if waiting is None:
                same_lock = [other for other in inserted.values() if other.queueing_lock == new.queueing_lock]
                if new.queueing_lock is None or not same_lock:
                    assert job_id not in inserted
                    inserted[job_id] = new
                assert job_id in inserted
            else:
                assert job_id == waiting.id
        for job_id, new in sorted(inserted.items()):
            self.model.insert(job_id, new)

    @rule(caller=callers, new=new_jobs, is_next=st.booleans(), replace=st.booleans())
    def defer_a_tick(self, caller: int, new: NewJob, is_next: bool, replace: bool) -> None:
        self.ticks += is_next or self.ticks == 0
        is_new = is_next or (self.ticks == 1 and not self.watch(steps.list_tick_jobs))
        waiting = self.model.waiting_under(new.queueing_lock)
        touched = [waiting] if replace and is_new and waiting is not None else []
        tick: dict[str, Any] = {"periodic_id": "", "defer_timestamp": self.ticks, "replace": replace}
        outcome = self._wait_for_user(touched, caller, core.defer_tick, new, **tick)
        if outcome is None:
            self.ticks -= 1
        elif not is_new:
            assert outcome == core.TickOutcome(job_id=None)
        elif waiting is not None and replace:
            assert outcome.job_id == waiting.id
            self.model.replace(waiting, new)
        elif waiting is not None:
            assert outcome == core.TickOutcome(job_id=None, queueing_lock_taken=True)
        else:
            assert outcome.job_id is not None
            self.model.insert(outcome.job_id, new)

    def cancel(self, caller: int, pick: int, abort: bool, delete: bool) -> None:
        job = self._pick_job(pick)
        touched = [job] if job and (job.status == "todo" or (job.status == "doing" and abort)) else []
        job_id = job.id if job else 0
        found = self._wait_for_user(touched, caller, core.cancel_job, job_id, abort=abort, delete=delete)
        if found is not None:
            assert found == self.model.cancel(job_id, abort=abort, delete=delete)

    def retry_by_hand(self, caller: int, pick: int, retry_at: Any, lock: str | None) -> None:
        job = self._pick_job(pick)
        touched = [job] if job and job.status in ("failed", "doing") else []
        job_id = job.id if job else 0
        lock = None if self.model.is_limited(job_id) else lock
        found = self._wait_for_user(touched, caller, core.retry_job_by_id, job_id, retry_at=retry_at, lock=lock)
        if found is not None:
            assert found == self.model.retry_by_hand(job_id, is_due=retry_at is None, lock=lock)

    def finish_by_id(self, caller: int, pick: int, status: Status, delete: bool) -> None:
        job = self._pick_job(pick)
        touched = [job] if job and not job.has_ended else []
        job_id = job.id if job else 0
        found = self._wait_for_user(touched, caller, core.finish_job_by_id, job_id, status=status, delete=delete)
        if found is not None:
            assert found == self.model.finish_by_id(job_id, status.value, delete=delete)

    def reschedule_with_plain_sql(self, caller: int, pick: int, is_due: bool) -> None:
        job = self._pick_job(pick)
        if job is not None and job.status == "todo" and job.id not in self.model.held:
            self.runs[caller](steps.write_columns, job.id, {"scheduled_at": PAST if is_due else FUTURE})
            job.is_due = is_due

    def forget_an_old_one(self, caller: int, pick: int) -> None:
        ended = [job for job in self.model.jobs.values() if job.has_ended]
        job = ended[pick % len(ended)] if ended else None
        if job is not None and job.id not in self.model.held:
            self.runs[caller](steps.write_columns, job.id, {"finished_at": PAST})
            statuses = [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED]
            assert self.runs[caller](core.delete_finished_jobs, older_than=HOUR, statuses=statuses) == 1
            del self.model.jobs[job.id]

    # Workers

    @rule(
        caller=callers,
        operation=st.sampled_from((core.promote_jobs, core.sweep_parked_jobs, core.admit_jobs)),
        limit=limits,
    )
    def promote_or_sweep(self, caller: int, operation: Any, limit: int) -> None:
        self.runs[caller](operation, limit=limit)

    @rule(caller=callers, number=st.sampled_from((None, 1, 2, 4)))
    def set_or_reset_the_limit(self, caller: int, number: int | None) -> None:
        if number is None:
            assert self.runs[caller](core.reset_limit, LIMIT.name)
        else:
            self.runs[caller](core.set_limit, core.LimitDefinition(name=LIMIT.name, concurrency=number))
        self.concurrency = CONCURRENCY if number is None else number

    @rule(caller=callers, pick=picks, limit=st.integers(1, 4), names=queues)
    def fetch_what_is_ready_by_now(self, caller: int, pick: int, limit: int, names: tuple[str, ...] | None) -> None:
        """Some jobs may not be promoted yet, but each fetched job must be allowed to run."""
        ready = self.model.fetchable(names)
        lockless = {job.id for job in ready if job.lock is None} - self.model.held
        fetched = self._fetch(caller, pick, limit, names)
        assert len(fetched) == limit or {job.id for job in fetched} >= {
            job_id for job_id in lockless if self.model.jobs[job_id].status == "todo" and not self._has_schedule(job_id)
        }

    @precondition(lambda self: not self.model.held)
    @rule(caller=callers, pick=picks, limit=st.integers(1, 4), names=queues)
    def fetch_when_all_is_promoted(self, caller: int, pick: int, limit: int, names: tuple[str, ...] | None) -> None:
        """The fetch returns exactly the jobs that could start, by rank, and leaves no slot of a limit free."""
        come_to_rest(self.runs[caller])
        check_rest(self.watch)
        ready = sorted(self.model.fetchable(names), key=lambda job: job.rank)
        fetched = self._fetch(caller, pick, limit, names)
        unlimited = [job.id for job in fetched if not self.model.is_limited(job.id)]
        assert unlimited == [job.id for job in ready][: len(unlimited)]
        if len(fetched) < limit:
            assert len(unlimited) == len(ready)
            assert names is not None or not self.model.keys_with_room(LIMIT.name, self.concurrency)
            assert names is not None or not self.model.has_room(LIMIT_OF_ALL.name, TOTAL)

    @precondition(lambda self: not self.model.held)
    @rule(pick=picks)
    def fetch_as_the_default_worker_does(self, pick: int) -> None:
        """The usual fetch is a rule of its own, so that it runs often."""
        self.fetch_when_all_is_promoted(0, pick, 4, None)

    def _fetch(self, caller: int, pick: int, limit: int, names: tuple[str, ...] | None) -> list[core.StoredJob]:
        worker_id = self._pick_worker(pick)
        fetched = self.runs[caller](core.fetch_jobs, worker_id=worker_id, limit=limit, queues=names)
        assert len(fetched) <= limit
        assert fetched == sorted(fetched, key=lambda job: (-job.priority, job.id))
        for stored in fetched:
            job = self.model.start(stored.id, worker_id)
            assert names is None or job.queue_name in names
            assert stored.attempts == job.attempts
            self.fetched.append(Fetched(job.id, job.attempts, worker_id))
        return fetched

    def _has_schedule(self, job_id: int) -> bool:
        return steps.column(self.watch, job_id, "scheduled_at") is not None

    @precondition(lambda self: self.fetched)
    @rule(caller=callers, pick=picks, status=ends, delete=st.sampled_from((False, False, True)))
    def finish(self, caller: int, pick: int, status: Status, delete: bool) -> None:
        worker_id, believed = self._pick_fetched(pick)
        outcomes = [FinishedJob(id=job.id, attempts=job.attempts, status=status, delete=delete) for job in believed]
        recorded = self.runs[caller](core.finish_jobs, outcomes, worker_id=worker_id)
        assert recorded == self.model.finish(outcomes, worker_id)

    @precondition(lambda self: self.fetched)
    @rule(caller=callers, pick=picks, number=st.sampled_from((1, 2)), status=ends)
    def finish_once_the_limit_is_lower(self, caller: int, pick: int, number: int, status: Status) -> None:
        self.set_or_reset_the_limit(caller, number)
        self.finish(caller, pick, status, delete=False)

    @precondition(lambda self: self.fetched)
    @rule(
        caller=callers,
        pick=picks,
        retry_at=st.sampled_from((None, PAST, FUTURE)),
        priority=st.sampled_from((None, 2)),
        queue=st.sampled_from((None, "b")),
        lock=st.sampled_from((None, "m")),
    )
    def retry(
        self, caller: int, pick: int, retry_at: Any, priority: int | None, queue: str | None, lock: str | None
    ) -> None:
        worker_id, believed = self._pick_fetched(pick)
        changes: dict[str, Any] = {"retry_at": retry_at, "priority": priority, "queue_name": queue}
        locks = {job.id: None if self.model.is_limited(job.id) else lock for job in believed}
        retries = [JobRetry(id=job.id, attempts=job.attempts, lock=locks[job.id], **changes) for job in believed]
        recorded = self.runs[caller](core.retry_jobs, retries, worker_id=worker_id)
        statuses = {job_id: status.value for job_id, status in recorded.items()}
        assert statuses == self.model.retry(retries, worker_id)

    @precondition(lambda self: self.fetched)
    @rule(caller=callers, pick=picks, keep_queueing_locks=st.sampled_from((True, True, False)))
    def release(self, caller: int, pick: int, keep_queueing_locks: bool) -> None:
        worker_id, believed = self._pick_fetched(pick)
        fetched = [FetchedJob(id=job.id, attempts=job.attempts) for job in believed]
        given = self.runs[caller](
            core.release_jobs, fetched, worker_id=worker_id, keep_queueing_locks=keep_queueing_locks
        )
        statuses = {job_id: status.value for job_id, status in given.items()}
        assert statuses == self.model.release(fetched, worker_id, keep_queueing_locks=keep_queueing_locks)

    @precondition(lambda self: self.model.running())
    @rule(pick=picks, is_silent=st.booleans())
    def lose_a_worker(self, pick: int, is_silent: bool) -> None:
        worker_id = self._pick_worker(pick)
        if is_silent:
            steps.silence(self.watch, worker_id)
            assert self.watch(core.prune_stalled_workers, seconds_since_heartbeat=60) == [worker_id]
        else:
            self.watch(core.unregister_worker, worker_id)
        assert not self.watch(core.update_heartbeat, worker_id)
        assert self.watch(core.fetch_jobs, worker_id=worker_id, limit=5) == []
        self.model.workers.remove(worker_id)
        self.register()

    @precondition(lambda self: self.lost_jobs())
    @rule(caller=callers, max_rescues=st.sampled_from((0, 1, 5)), limit=limits)
    def rescue(self, caller: int, max_rescues: int, limit: int) -> None:
        lost = self.lost_jobs()
        rescued = self.runs[caller](core.rescue_jobs, max_rescues=max_rescues, limit=limit)
        statuses = {job.id: job.status.value for job in rescued}
        assert statuses == self.model.take_back(lost, max_rescues=max_rescues, limit=limit)

    def lost_jobs(self) -> list[Job]:
        """Return the running jobs whose worker is not registered."""
        return [job for job in self.model.running() if job.worker_id not in self.model.workers]

    @precondition(lambda self: self.model.running())
    @rule(caller=callers, pick=picks, max_rescues=st.sampled_from((0, 5)))
    def take_stock(self, caller: int, pick: int, max_rescues: int) -> None:
        worker_id = self._pick_worker(pick)
        mine = [job for job in self.model.running() if job.worker_id == worker_id]
        known = {job.id for job in mine[::2]}
        returned = self.runs[caller](
            core.return_unknown_jobs, worker_id=worker_id, known_ids=known, max_rescues=max_rescues
        )
        unknown = [job for job in mine if job.id not in known]
        statuses = {job.id: job.status.value for job in returned}
        assert statuses == self.model.take_back(unknown, max_rescues=max_rescues, limit=500)

    # A user with an open transaction

    @precondition(lambda self: len(self.model.jobs) > 1 and not self.model.held)
    @rule(pick=picks)
    def hold_a_row(self, pick: int) -> None:
        job = self._pick_job(pick)
        assert job is not None
        self.user.execute(sa.text("SELECT FROM procrastinate_jobs WHERE id = :id FOR UPDATE"), {"id": job.id})
        self.model.held = {job.id}

    @precondition(lambda self: self.model.held)
    @rule()
    def let_go(self) -> None:
        """End the user's transaction. What passed the locked row by in the meantime is left to the next sweep."""
        self.user.rollback()
        self.model.held = set()
        self._sweep()

    def _sweep(self) -> None:
        """Sweep as the workers do from time to time."""
        self.watch(core.sweep_parked_jobs)
        self.watch(core.sweep_lines)

    def _wait_for_user(
        self,
        touched: list[Job],
        caller: int,
        operation: Callable[Concatenate[sa.Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R | None:
        """Run an operation on a row that the user has locked. It must raise the timeout and change nothing."""
        if not any(job.id in self.model.held for job in touched):
            return self.runs[caller](operation, *args, **kwargs)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            self.runs[caller](operation, *args, **kwargs)
        assert errors.is_lock_timeout(caught.value)
        return None

    # Selecting jobs

    def _pick_job(self, pick: int) -> Job | None:
        """Return one of the newest jobs, or ``None`` if there are none."""
        newest = sorted(self.model.jobs.values(), key=lambda job: -job.id)
        return newest[pick % len(newest)] if newest else None

    def _pick_worker(self, pick: int) -> int:
        return sorted(self.model.workers)[pick % len(self.model.workers)]

    def _pick_fetched(self, pick: int) -> tuple[int, list[Fetched]]:
        """Return a worker and up to three of the jobs that it has fetched, newest first."""
        if not self.fetched:
            return 0, [Fetched(1, 0, 0)]
        newest = self.fetched[::-1]
        chosen = newest[pick % len(newest)]
        same = {job.id: job for job in newest if job.worker_id == chosen.worker_id}
        same[chosen.id] = chosen
        others = [job for job in same.values() if job != chosen][: pick % 3]
        return chosen.worker_id, [chosen, *others]

    # Invariants

    @invariant()
    def the_tables_are_as_the_model(self) -> None:
        rows = check_invariants(self.watch, self.model.released, lowered={LIMIT.name: self.most_slots})
        self._check_slots(rows)
        assert {job_id: _as_modelled(row) for job_id, row in rows.items()} == self.model.rows()
        assert set(self.watch(steps.list_workers)) == self.model.workers

    def _check_slots(self, rows: dict[int, dict[str, Any]]) -> None:
        """Check that no job got a slot that its key does not have now. Jobs that had one before may keep it."""
        weights: Counter[str] = Counter()
        have_slots: dict[str, set[int]] = {}
        for job_id, row in rows.items():
            is_promoted = row["status"] == "todo" and row["readiness"] == core.Readiness.PROMOTED
            if row["limit_name"] == LIMIT.name and (row["status"] == "doing" or is_promoted):
                weights[row["limit_key"]] += row["limit_weight"] or 1
                have_slots.setdefault(row["limit_key"], set()).add(job_id)
        for key, number in weights.items():
            assert number <= self.concurrency or have_slots[key] <= self.had_slots.get(key, set()), (key, number)
        self.had_slots = have_slots
        self.most_slots = max(weights.values(), default=0)

    def teardown(self) -> None:
        """Finally run all jobs, in the order of each lock."""
        try:
            self.user.rollback()
            self._sweep()
            self.watch(core.reset_limit, LIMIT.name)
            waiting = [job for job in self.model.jobs.values() if not job.has_ended]
            promoted = {
                job_id for (job_id,) in self.watch(steps.query, _PROMOTED, promoted=core.Readiness.PROMOTED.value)
            }
            ran = drain(self.watch, released=self.model.released)
            assert sorted(ran) == sorted(job.id for job in waiting if _runs_at_last(job))
            for lock in ("l", "m"):
                of_lock = [self.model.jobs[job_id] for job_id in ran if self.model.jobs[job_id].lock == lock]
                order = [job.rank for job in of_lock if job.id not in promoted]  # one has the lock already
                assert order == sorted(order)
        finally:
            self.user.close()


def _runs_at_last(job: Job) -> bool:
    """Return whether the job runs in the end. A job with an abort request ends when its worker is lost."""
    return not (job.status == "doing" and job.abort_requested)


def _as_modelled(row: dict[str, Any]) -> dict[str, Any]:
    is_due = row["scheduled_at"] is None or row["scheduled_at"] != FUTURE
    return {field.name: is_due if field.name == "is_due" else row[field.name] for field in dataclasses.fields(Job)}


_TABLES = ", ".join(table.name for table in core.metadata.sorted_tables)
_PROMOTED = "SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND readiness = :promoted"
_EMPTY = f"TRUNCATE {_TABLES} RESTART IDENTITY"


@contextlib.contextmanager
def engines_on(database_url: str) -> Iterator[list[sa.Engine]]:
    """Yield engines with one connection each and a `lock_timeout` of 50 ms."""
    options = {"options": "-c lock_timeout=50ms"}
    engines = [sa.create_engine(database_url, pool_size=1, max_overflow=0, connect_args=options) for _ in range(4)]
    try:
        yield engines
    finally:
        for engine in engines:
            engine.dispose()


@pytest.mark.timeout(3600)
def test_whatever_is_done_in_any_order_the_tables_are_as_the_model(database_url: str) -> None:
    with engines_on(database_url) as engines:
        run_state_machine_as_test(lambda: AnyOrder(engines), settings=SETTINGS)
