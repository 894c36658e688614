"""Reasons in the surroundings of a waiting job: the database and the workers. A check returns a reason or ``None``."""

from __future__ import annotations

import shlex

from procrastinate.core.applied_revisions import read_applied
from procrastinate.core.inspection import catalogue_facts
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.explanation_types import Reason, ReasonKind
from procrastinate.core.inspection.running_reasons import blocked_reason, is_blocked
from procrastinate.core.workflow_rows import SIGNAL_TASK

_MANY_DEAD = 100_000
UNKNOWN_TASKS_FAIL = (
    "Workers put off its jobs, and fail them after their option unknown_task_timeout, which is 1 h by default"
)
KNOW_THE_TASK = "Deploy the code of the task, import its module (import_paths), or give its old name as alias"


def resume_advice(queue: str) -> str:
    """Return how a paused queue is resumed. A terminal and a page show no name that could forge their text."""
    end_of_options = "-- " if queue.startswith("-") else ""
    command = f"`procrastinate queues resume {end_of_options}{shlex.quote(queue)}`, or " if queue.isprintable() else ""
    return f"{command}app.queues.resume({queue!r})"


# The database


def triggers_off(case: Case) -> Reason | None:
    """Do the triggers of the tables work."""
    off = catalogue_facts.list_triggers_off(case.connection)
    if not off:
        return None
    names = ", ".join(filter(None, off)) or "all of them are missing"
    return Reason(
        code="triggers-off",
        kind=ReasonKind.BLOCKED,
        text=f"Triggers of the jobs are off ({names}): workers are not notified, and locks are not handed on",
        advice="ALTER TABLE procrastinate_jobs ENABLE TRIGGER USER",
    )


def index_missing(case: Case) -> Reason | None:
    """Are all indexes there, and valid."""
    off = catalogue_facts.list_indexes_off(case.connection)
    if not off:
        return None
    return Reason(
        code="index-missing",
        kind=ReasonKind.BLOCKED,
        text=f"Indexes of the jobs are missing or invalid: {', '.join(off)}. Fetches are slow, or locks are not kept",
        advice="REINDEX INDEX CONCURRENTLY, or create the index as `procrastinate schema --read` shows it",
    )


def read_only(case: Case) -> Reason | None:
    """Does the database take writes."""
    server = catalogue_facts.read_server(case.connection)
    if server.is_standby:
        return Reason(
            code="standby",
            kind=ReasonKind.BLOCKED,
            text="This database is a standby: nothing can be fetched here",
            advice="Connect to the primary",
        )
    if server.role != "origin":
        return Reason(
            code="replica-role",
            kind=ReasonKind.BLOCKED,
            text=f"session_replication_role is {server.role}: triggers do not fire, and workers are not notified",
            advice="ALTER ROLE or ALTER DATABASE ... RESET session_replication_role",
        )
    return None


def schema_behind(case: Case) -> Reason | None:
    """Do workers wait for the schema."""
    applied = None if case.alive or not case.revisions else read_applied(case.connection)
    if applied is None or not set(applied.names) <= set(case.revisions) or case.revisions[-1] in applied.names:
        return None
    return Reason(
        code="schema-behind",
        kind=ReasonKind.BLOCKED,
        text=(
            f"The schema is at revision {max(applied.names, default='(none)')}, and no worker of this release starts "
            f"before {case.revisions[-1]} is applied"
        ),
        advice="Run `procrastinate schema --apply`, or `manage.py migrate` in Django",
    )


def connections_used_up(case: Case) -> Reason | None:
    """Are connections left."""
    server = catalogue_facts.read_server(case.connection)
    if server.connections < server.max_connections - 3:
        return None
    return Reason(
        code="connections-used-up",
        kind=ReasonKind.BLOCKED,
        text=f"{server.connections} of {server.max_connections} connections are in use: workers may find none",
        advice="Close some, raise max_connections, or use a pooler",
    )


def bloated(case: Case) -> Reason | None:
    """Are there more dead rows than live ones."""
    bloat = catalogue_facts.read_bloat(case.connection)
    if bloat is None or bloat.dead < _MANY_DEAD or bloat.dead < 5 * bloat.live:
        return None
    return Reason(
        code="bloated",
        kind=ReasonKind.BLOCKED,
        text=f"The table has {bloat.dead:,} dead rows and {bloat.live:,} live ones. Fetches walk over the dead ones",
        advice="End old transactions and unused replication slots, then VACUUM procrastinate_jobs",
    )


# The workers


def no_worker(case: Case) -> Reason | None:
    """Is a worker alive."""
    if case.alive:
        return None
    silent = f" ({len(case.workers)} are registered, and silent)" if case.workers else ""
    return Reason(
        code="no-worker",
        kind=ReasonKind.BLOCKED,
        text=f"No worker is alive{silent}",
        advice="Start one: procrastinate worker. If one runs, it looks at another database or schema",
    )


def no_worker_for_queue(case: Case) -> Reason | None:
    """Does a worker take jobs of its queue."""
    if not case.alive or case.serving:
        return None
    served = sorted({queue for worker in case.alive for queue in worker.queues or ()})
    return Reason(
        code="no-worker-for-queue",
        kind=ReasonKind.BLOCKED,
        text=f"No worker takes jobs of the queue {case.row.queue_name!r}. Workers take those of: {', '.join(served)}",
        advice="Start a worker for this queue, or defer to one of those queues",
    )


def fetches_fail(case: Case) -> Reason | None:
    """Can the workers fetch."""
    failing = [worker for worker in case.serving if worker.error_after_fetch]
    if not failing or len(failing) < len(case.serving):
        return None
    codes = ", ".join(sorted({worker.error_code or "?" for worker in failing}))
    return Reason(
        code="fetches-fail",
        kind=ReasonKind.BLOCKED,
        text=f"The fetches of the workers fail with the error {codes}",
        advice="Look into the log of a worker for fetch_jobs_error. 42501 means a missing right",
    )


def workers_drain(case: Case) -> Reason | None:
    """Do the workers still take jobs."""
    if not case.serving or any(worker.state != "draining" for worker in case.serving):
        return None
    return Reason(
        code="workers-drain",
        kind=ReasonKind.BLOCKED,
        text="All workers of this queue are stopping. They end their last jobs and fetch no more",
        advice="Start a worker",
    )


def loop_blocked(case: Case) -> Reason | None:
    """Do the event loops of the workers turn."""
    blocked = [worker for worker in case.serving if is_blocked(worker)]
    return blocked_reason(blocked) if blocked and len(blocked) == len(case.serving) else None


def slots_lost(case: Case) -> Reason | None:
    """Are slots lost to threads that go on after a timeout."""
    full = [worker for worker in case.serving if worker.free is not None and worker.free <= 0]
    lost = sum(worker.lost_threads or 0 for worker in full)
    if not lost or len(full) < len(case.serving):
        return None
    return Reason(
        code="slots-lost",
        kind=ReasonKind.BLOCKED,
        text=f"All slots are taken, {lost} of them by threads of jobs that have timed out and go on",
        advice="Restart the workers, and give the task a timeout of its own for what it waits for",
    )


def workers_full(case: Case) -> Reason | None:
    """Is a slot free."""
    workers = [worker for worker in case.serving if worker.state != "draining"]
    if not workers or any(worker.free is None or worker.free > 0 for worker in workers):
        return None
    busy = sum(worker.running or 0 for worker in workers)
    return Reason(
        code="workers-full",
        kind=ReasonKind.WAITS,
        text=f"All slots of the {len(workers)} workers of this queue are taken: they run {busy} jobs",
        advice="Wait, raise the concurrency, or start more workers",
    )


def all_full(case: Case) -> Reason | None:
    """Is a slot free in any worker, which then promotes."""
    if not case.alive or any(worker.free is None or worker.free > 0 for worker in case.alive):
        return None
    return Reason(
        code="workers-full",
        kind=ReasonKind.WAITS,
        text="All slots of all workers are taken. A full worker does not look for jobs that fall due",
        advice="Wait, raise the concurrency, or start more workers",
    )


def task_unknown(case: Case) -> Reason | None:
    """Does a worker know its task. A job that waits for a signal runs no task."""
    name = case.row.task_name
    if name == SIGNAL_TASK or case.know_task():
        return None
    return Reason(
        code="task-unknown",
        kind=ReasonKind.BLOCKED,
        text=f"No worker of this queue has registered the task {name!r}. {UNKNOWN_TASKS_FAIL}",
        advice=KNOW_THE_TASK,
    )


def returned_for_its_task(case: Case) -> Reason | None:
    """Has a worker returned it, and does none know its task. The scheduled time is then a worker's."""
    return task_unknown(case) if case.row.was_returned else None


def not_listening(case: Case) -> Reason | None:
    """Are the workers notified."""
    if not case.serving or any(worker.listens is not False for worker in case.serving):
        return None
    return Reason(
        code="not-listening",
        kind=ReasonKind.WAITS,
        text="No worker of this queue listens for notifications. They find the job when they poll",
        advice="Wait for the polling interval, or turn listen_notify on",
    )
