"""Checks of the workers, the queues and the tables' rows. Each yields its findings."""

from __future__ import annotations

from collections.abc import Iterator

from procrastinate._durations import duration
from procrastinate.core.dead_workers import DECIDE_ON_LEFT_BEHIND
from procrastinate.core.doctor import server_facts, work_facts
from procrastinate.core.doctor.findings import Finding, Severity
from procrastinate.core.doctor.patient import Patient
from procrastinate.core.inspection import catalogue_facts, facts
from procrastinate.core.inspection.environment_reasons import KNOW_THE_TASK, UNKNOWN_TASKS_FAIL, resume_advice
from procrastinate.core.inspection.facts import WorkerFacts
from procrastinate.core.inspection.ready_since import read_movement
from procrastinate.core.inspection.running_reasons import is_blocked
from procrastinate.core.tables import jobs

_SHOWN = 20
"""Maximum number of queues or workers that a check names."""


def _name(worker: WorkerFacts) -> str:
    return f"{worker.name} ({worker.id})" if worker.name else str(worker.id)


def no_worker(patient: Patient) -> Iterator[Finding]:
    """Is a worker alive."""
    if patient.alive:
        return
    silent = f". {len(patient.workers)} are registered, and silent" if patient.workers else ""
    yield Finding(
        code="no-worker",
        severity=Severity.FAULT,
        text=f"No worker is alive{silent}",
        advice="Start one with `procrastinate worker`. If one runs, it looks at another database or schema",
    )


def silent_workers(patient: Patient) -> Iterator[Finding]:
    """Do all workers give signs of life."""
    for worker in [one for one in patient.workers if not one.is_alive][:_SHOWN]:
        rescue = "Another one takes its jobs back" if patient.alive else "No other takes its jobs back"
        if worker.is_of_3x and patient.alive:
            rescue += " after an hour, because it is of Procrastinate 3.x (--legacy-worker-timeout)"
        yield Finding(
            code="worker-silent",
            severity=Severity.WARNING,
            subject=_name(worker),
            text=f"The worker {_name(worker)} has been silent for {duration(worker.silent_for)}. {rescue}",
            advice="Look into its log" if patient.alive else "Start a worker",
        )


def troubled_workers(patient: Patient) -> Iterator[Finding]:
    """Do the workers work."""
    for worker in patient.alive[:_SHOWN]:
        yield from _troubles(worker)
    deaf = [worker for worker in patient.alive if worker.listens is False]
    if deaf:
        yield Finding(
            code="not-listening",
            severity=Severity.NOTE,
            text=f"{len(deaf)} of {len(patient.alive)} workers do not listen. They find jobs when they poll",
            advice="Turn listen_notify on. Behind PgBouncer, set listen_connect_args",
        )


def _troubles(worker: WorkerFacts) -> Iterator[Finding]:
    if worker.error_after_fetch:
        yield _trouble(
            worker,
            "fetches-fail",
            f"cannot fetch. The last error was {worker.error_code or 'unknown'}",
            "Look into its log for fetch_jobs_error. 42501 means a missing right",
        )
    if is_blocked(worker):
        yield _trouble(
            worker,
            "loop-blocked",
            f"has an async task that blocks its event loop, for {duration(worker.loop_lag or 0)}",
            "Call blocking code in a sync task, or with asyncio.to_thread()",
        )
    if worker.lost_threads:
        yield _trouble(
            worker,
            "slots-lost",
            f"has lost {worker.lost_threads} slots to threads of jobs that have timed out and go on",
            "Restart it, and give what the task waits for a timeout of its own",
        )
    if worker.unwritten:
        yield _trouble(
            worker,
            "outcomes-unwritten",
            f"has {worker.unwritten} outcomes that it cannot write",
            "Look into its log for record_outcomes_error. Often a transaction has locked the rows",
        )


def _trouble(worker: WorkerFacts, code: str, what: str, advice: str) -> Finding:
    return Finding(
        code=code,
        severity=Severity.FAULT,
        subject=_name(worker),
        text=f"The worker {_name(worker)} {what}",
        advice=advice,
    )


def promoter(patient: Patient) -> Iterator[Finding]:
    """Does the session that has the turn to promote go on."""
    for session in catalogue_facts.find_promoters(patient.connection):
        yield Finding(
            code="promoter-hangs",
            severity=Severity.FAULT,
            subject=str(session.pid),
            text=f"A session holds the turn to promote jobs, and does not go on: {session}",
            advice=f"SELECT pg_terminate_backend({session.pid})",
        )


def unserved_queues(patient: Patient) -> Iterator[Finding]:
    """Does a worker serve each queue."""
    found = patient.jobs_of_queues
    if not patient.alive or found.silent_on_queues:
        return
    unserved = [queue for queue in found.queues if not queue.served_by]
    for queue in sorted(unserved, key=lambda one: not one.has_waiting)[:_SHOWN]:
        waits = queue.has_waiting
        yield Finding(
            code="queue-unserved",
            severity=Severity.FAULT if waits else Severity.NOTE,
            subject=queue.name,
            text=f"No worker takes jobs of the queue {queue.name!r}" + (", and jobs wait in it" if waits else ""),
            advice="Start a worker for this queue, or correct its name",
        )


def paused_queues(patient: Patient) -> Iterator[Finding]:
    """Is a queue paused."""
    for pause in work_facts.list_pauses(patient.connection)[:_SHOWN]:
        by = f" by {pause.paused_by}" if pause.paused_by else ""
        since = f" since {pause.since:%Y-%m-%d %H:%M:%S} UTC" if pause.since else ""
        until = f" until {pause.until:%Y-%m-%d %H:%M:%S} UTC" if pause.until else ""
        why = f": {pause.reason}" if pause.reason else ""
        yield Finding(
            code="queue-paused",
            severity=Severity.NOTE,
            subject=pause.queue_name,
            text=f"The queue {pause.queue_name!r} is paused{by}{since}{until}{why}",
            advice=resume_advice(pause.queue_name),
        )


def unknown_tasks(patient: Patient) -> Iterator[Finding]:
    """Does a worker know the task of each waiting job."""
    found = [
        row
        for row in work_facts.list_waiting_tasks(patient.connection)
        if not patient.know_task(row.queue_name, row.task_name)
    ]
    for row in sorted(found, key=lambda row: (-row.count, row.first_job_id))[:_SHOWN]:
        wait = "1 job waits" if row.count == 1 else f"{row.count:,} jobs wait"
        if row.count >= work_facts.LOOKED_AT:
            wait = f"at least {row.count:,} jobs wait"
        yield Finding(
            code="task-unknown",
            severity=Severity.FAULT,
            subject=row.task_name,
            text=(
                f"No worker of the queue {row.queue_name!r} has registered the task {row.task_name!r}, and {wait} for "
                f"it (first {row.first_job_id}). {UNKNOWN_TASKS_FAIL}"
            ),
            advice=KNOW_THE_TASK,
        )


def jobs_left_alone(patient: Patient) -> Iterator[Finding]:
    """Do free workers take ready jobs.

    A worker said at its last heartbeat that it was free. If a job had been ready for longer than a poll at that time,
    the worker should have taken it.
    """
    names = [one.name for one in patient.jobs_of_queues.queues if one.ready.number and one.pause is None]
    heads = work_facts.list_heads(patient.connection, names)
    movement = read_movement(patient.connection) if heads else None
    seen: set[str] = set()
    for job in heads:
        since = None if movement is None else movement.ready_since(job.version)
        if movement is None or since is None or job.queue_name in seen:
            continue
        waited = (patient.now - since).total_seconds()
        free = [one for one in patient.alive if one.was_free_after(since, facts.POLL, job.queue_name)]
        if not free or waited <= patient.limits.left_alone_seconds:
            continue
        if movement.moves(job.queue_name, job.priority, job.id):
            continue
        seen.add(job.queue_name)
        yield Finding(
            code="jobs-left-alone",
            severity=Severity.FAULT,
            subject=job.queue_name,
            text=(
                f"Job {job.id} of the queue {job.queue_name!r} has been ready for {duration(waited)}, "
                f"and the worker {_name(free[0])} is free and does not take it"
            ),
            advice=f"Ask `procrastinate why {job.id}`. If it finds no reason, report a fault of the queue",
        )


def orphaned_jobs(patient: Patient) -> Iterator[Finding]:
    """Does each running job have a live worker."""
    count = work_facts.count_orphaned(patient.connection)
    if count:
        rescue = "Another worker takes over" if patient.alive else "No worker is alive to take over"
        yield Finding(
            code="jobs-orphaned",
            severity=Severity.WARNING if patient.alive else Severity.FAULT,
            text=f"{_running_jobs(count)} without a live worker. {rescue}",
            advice=(
                "Wait a minute from the worker's end, or an hour if it was of Procrastinate 3.x"
                if patient.alive
                else "Start a worker"
            ),
        )
    left = work_facts.count_left_behind(patient.connection)
    if left:
        yield Finding(
            code="jobs-left-behind",
            severity=Severity.FAULT,
            text=f"Procrastinate 3.x has left {_running_jobs(left)} behind, until you decide",
            advice=DECIDE_ON_LEFT_BEHIND,
        )


def _running_jobs(count: int) -> str:
    return "1 running job" if count == 1 else f"{_shown(count)} running jobs"


def _shown(count: int) -> str:
    return f"more than {work_facts.COUNTED:,}" if count > work_facts.COUNTED else f"{count:,}"


def dead_rows(patient: Patient) -> Iterator[Finding]:
    """Does vacuum keep up."""
    if not server_facts.read_server(patient.connection).vacuums:
        yield Finding(
            code="autovacuum-off",
            severity=Severity.WARNING,
            text="Autovacuum is off for the whole server. Dead rows pile up, and fetches walk over them",
            advice="Turn autovacuum and track_counts on in postgresql.conf, and reload it",
        )
    for table in server_facts.read_tables(patient.connection):
        if table.is_left_out:
            yield Finding(
                code="autovacuum-off",
                severity=Severity.WARNING,
                subject=table.name,
                text=f"Autovacuum is off for {table.name}. Dead rows pile up, and fetches walk over them",
                advice=f"ALTER TABLE {table.name} RESET (autovacuum_enabled)",
            )
        if table.dead >= patient.limits.dead_rows and table.dead > 2 * table.live:
            yield Finding(
                code="dead-rows",
                severity=Severity.WARNING,
                subject=table.name,
                text=f"{table.name} has {table.dead:,} dead rows and {table.live:,} live ones",
                advice=f"End old transactions, then VACUUM {table.name}",
            )


def history(patient: Patient) -> Iterator[Finding]:
    """Are ended jobs deleted."""
    rows = next((t.rows for t in server_facts.read_tables(patient.connection) if t.name == jobs.name), 0)
    if rows < patient.limits.large_table_rows:
        return
    oldest = work_facts.read_oldest_end(patient.connection)
    age = 0.0 if oldest is None else (patient.now - oldest).total_seconds()
    if age > patient.limits.history_days * 86_400:
        yield Finding(
            code="history-grows",
            severity=Severity.WARNING,
            text=f"{jobs.name} has about {rows:,} rows, and the oldest ended job is {duration(age)} old",
            advice="Schedule builtin_tasks.remove_old_jobs, or run workers with --delete-jobs=successful",
        )


CHECKS = (
    no_worker,
    silent_workers,
    troubled_workers,
    promoter,
    unserved_queues,
    paused_queues,
    unknown_tasks,
    jobs_left_alone,
    orphaned_jobs,
    dead_rows,
    history,
)
