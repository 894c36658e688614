"""SQLAlchemy definitions of the tables. The Alembic revisions create them, and a test compares the two.

The first twelve columns of ``procrastinate_jobs`` and the next three tables have the columns, types and values of
Procrastinate 3.x. This project adds the other columns of the jobs, all columns after ``last_heartbeat`` of the workers,
and the other tables.

The tables have no foreign keys on purpose. A check per event row costs more than the event itself, and the deletion of
a worker would scan all jobs that it ever ran. Triggers (``alembic/versions``) do the same work once per statement.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

from procrastinate.core.defaults import LARGEST_COUNT
from procrastinate.core.enums import EventType, Readiness, Status

metadata = sa.MetaData()

status_type: TypeEngine[Any] = sa.Enum(
    Status, name="procrastinate_job_status", values_callable=lambda enum: [member.value for member in enum]
)
event_type: TypeEngine[Any] = sa.Enum(
    EventType, name="procrastinate_job_event_type", values_callable=lambda enum: [member.value for member in enum]
)

jobs = sa.Table(
    "procrastinate_jobs",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("queue_name", sa.String(128), nullable=False),
    sa.Column("task_name", sa.String(128), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("lock", sa.Text),
    sa.Column("queueing_lock", sa.Text),
    sa.Column("args", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("status", status_type, nullable=False, server_default=sa.text("'todo'::procrastinate_job_status")),
    sa.Column("scheduled_at", sa.DateTime(timezone=True)),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("abort_requested", sa.Boolean, nullable=False, server_default=sa.text("false")),
    sa.Column("worker_id", sa.BigInteger),
    sa.Column("readiness", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("rescues", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    # The group of the workflow that the job is a member of, and the name of its step.
    sa.Column("workflow_id", sa.BigInteger),
    sa.Column("step", sa.Text),
    # What the program that deferred the job says of it, and the context of its trace.
    sa.Column("meta", JSONB),
    sa.Column("trace_context", JSONB),
    sa.Column("limit_name", sa.Text),
    sa.Column("limit_key", sa.Text),
    # How many slots of its limit the job takes. NULL means one.
    sa.Column("limit_weight", sa.Integer),
    sa.CheckConstraint("NOT (status = 'todo' AND abort_requested)", name="procrastinate_jobs_todo_not_aborted"),
)
CHANGE_OF_JOBS = sa.update(jobs)
"""A change of jobs, for a session that chooses its engine by the statement. It is never executed."""

events = sa.Table(
    "procrastinate_events",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("job_id", sa.BigInteger, nullable=False),
    sa.Column("type", event_type),
    sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()")),
    sa.Index("procrastinate_events_job_id_idx", "job_id"),
)

periodic_defers = sa.Table(
    "procrastinate_periodic_defers",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("task_name", sa.String(128), nullable=False),
    sa.Column("defer_timestamp", sa.BigInteger),
    sa.Column("job_id", sa.BigInteger),
    sa.Column("periodic_id", sa.String(128), nullable=False, server_default=sa.text("''")),
    sa.UniqueConstraint("task_name", "periodic_id", "defer_timestamp", name="procrastinate_periodic_defers_unique"),
    sa.Index("procrastinate_periodic_defers_job_id_idx", "job_id", postgresql_where=sa.text("job_id IS NOT NULL")),
)

workers = sa.Table(
    "procrastinate_workers",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("last_heartbeat", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    # Queues whose new jobs notify this worker. An empty array means all queues; NULL means the worker polls.
    sa.Column("called_for", ARRAY(sa.Text), server_default=sa.text("'{}'::text[]")),
    # In seconds. NULL for a worker of an older release.
    sa.Column("heartbeat_interval", sa.Double),
    sa.Column("stalled_timeout", sa.Double),
    # What the worker is. It says so once. All of it is NULL for a worker of an older release.
    sa.Column("name", sa.Text),
    sa.Column("hostname", sa.Text),
    sa.Column("pid", sa.Integer),
    sa.Column("version", sa.Text),
    # An empty array means all queues.
    sa.Column("queues", ARRAY(sa.Text)),
    sa.Column("concurrency", sa.Integer),
    sa.Column("listens", sa.Boolean),
    # The hash of its list of tasks in procrastinate_task_lists.
    sa.Column("task_list", sa.Text),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    # What the worker does, as of its last heartbeat. The state is "running" or "draining".
    sa.Column("state", sa.Text),
    sa.Column("running", sa.Integer),
    # The first thousand.
    sa.Column("running_ids", ARRAY(sa.BigInteger)),
    sa.Column("fetched_ahead", sa.Integer),
    sa.Column("lost_threads", sa.Integer),
    sa.Column("unwritten", sa.Integer),
    sa.Column("loop_beat_at", sa.DateTime(timezone=True)),
    sa.Column("last_fetch_at", sa.DateTime(timezone=True)),
    # The SQLSTATE or the class of the last error of a fetch, and its time.
    sa.Column("last_error_code", sa.Text),
    sa.Column("last_error_at", sa.DateTime(timezone=True)),
    # The paused queues that the worker knows of.
    sa.Column("paused_queues", ARRAY(sa.Text)),
    sa.Index("procrastinate_workers_last_heartbeat_idx", "last_heartbeat"),
)

results = sa.Table(
    "procrastinate_results",
    metadata,
    sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", JSONB, nullable=False),
)

errors = sa.Table(
    "procrastinate_errors",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("job_id", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("worker_id", sa.BigInteger),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("exception_class", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("traceback", sa.Text, nullable=False),
    sa.Index("procrastinate_errors_job_id_idx", "job_id"),
)

# What runs of jobs report while they run. It is written often, so rows have room to change in place.
job_reports = sa.Table(
    "procrastinate_job_reports",
    metadata,
    sa.Column("job_id", sa.BigInteger, primary_key=True, autoincrement=False),
    # The number of the run, from 1.
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    # "progress", "log" or "stack".
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("worker_id", sa.BigInteger),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("content", JSONB, nullable=False),
)

task_lists = sa.Table(
    "procrastinate_task_lists",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("tasks", ARRAY(sa.Text), nullable=False),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
)

statistics = sa.Table(
    "procrastinate_statistics",
    metadata,
    # The length of the interval that begins "at". Zero for the row of all time, which begins in 1970.
    sa.Column("seconds", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("queue_name", sa.String(128), primary_key=True),
    sa.Column("task_name", sa.String(128), primary_key=True),
    # "succeeded", "failed", "aborted", or "retried".
    sa.Column("outcome", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("run_seconds", sa.Double, nullable=False),
    sa.Column("run_histogram", ARRAY(sa.BigInteger), nullable=False),
    # The time between ready and started, of some of the runs.
    sa.Column("wait_count", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("wait_seconds", sa.Double, nullable=False, server_default=sa.text("0")),
    sa.Column("wait_histogram", ARRAY(sa.BigInteger), nullable=False),
)

paused_queues = sa.Table(
    "procrastinate_paused_queues",
    metadata,
    sa.Column("queue_name", sa.String(128), primary_key=True),
    sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    # NULL for a pause that ends only by hand.
    sa.Column("paused_until", sa.DateTime(timezone=True)),
    sa.Column("paused_by", sa.Text),
    sa.Column("reason", sa.Text),
)

operations = sa.Table(
    "procrastinate_operations",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("filter", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("requested_by", sa.Text),
    sa.Column("reason", sa.Text),
    # "pending", "running", "done", "cancelled", or "failed".
    sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'pending'::text")),
    sa.Column("expected", sa.BigInteger),
    sa.Column("done", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("skipped", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    # The id of the last job that was examined, and the last id to examine.
    sa.Column("reached_id", sa.BigInteger),
    sa.Column("last_id", sa.BigInteger),
    sa.Column("error", sa.Text),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("started_at", sa.DateTime(timezone=True)),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
)

_count: dict[str, Any] = {"nullable": False, "server_default": sa.text("0")}

workflows = sa.Table(
    "procrastinate_workflows",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    # The workflow that a group belongs to. That of a workflow is its own id.
    sa.Column("root_id", sa.BigInteger, nullable=False),
    sa.Column("parent_id", sa.BigInteger),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("if_failed", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("cancelled_at", sa.DateTime(timezone=True)),
    # How the members ended, written once, with finished_at. A lost member was deleted before its end.
    *(sa.Column(name, sa.BigInteger, **_count) for name in ("succeeded", "failed", "cancelled", "aborted", "lost")),
    sa.Index("procrastinate_workflows_root_idx", "root_id"),
    sa.Index(
        "procrastinate_workflows_open_parent_idx",
        "parent_id",
        postgresql_where=sa.text("parent_id IS NOT NULL AND finished_at IS NULL"),
    ),
    sa.Index(
        "procrastinate_workflows_finished_idx",
        "finished_at",
        postgresql_where=sa.text("parent_id IS NULL AND finished_at IS NOT NULL"),
    ),
)

dependencies = sa.Table(
    "procrastinate_dependencies",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("job_id", sa.BigInteger, nullable=False),
    sa.Column("parent_id", sa.BigInteger),
    sa.Column("parent_workflow_id", sa.BigInteger),
    sa.Column("rule", sa.SmallInteger, nullable=False),
    # The place in the arguments that the parent's result is for, as a JSON array of names and positions.
    sa.Column("argument", JSONB),
    # Seconds between the end of the parent and the start of the job.
    sa.Column("delay", sa.Double),
    # True if the parent has ended. It saves a look at the parent, and a parent that is retried leaves it as it is.
    sa.Column("is_closed", sa.Boolean, nullable=False, server_default=sa.text("false")),
    sa.Index("procrastinate_dependencies_job_id_idx", "job_id"),
    sa.Index("procrastinate_dependencies_open_idx", "job_id", postgresql_where=sa.text("NOT is_closed")),
    sa.Index(
        "procrastinate_dependencies_parent_id_idx", "parent_id", postgresql_where=sa.text("parent_id IS NOT NULL")
    ),
    sa.Index(
        "procrastinate_dependencies_parent_workflow_id_idx",
        "parent_workflow_id",
        postgresql_where=sa.text("parent_workflow_id IS NOT NULL"),
    ),
)

_ids: dict[str, Any] = {"nullable": False, "server_default": sa.text("'{}'::bigint[]")}

# What workers have to look at: jobs that ended, groups that may have ended, jobs that wait for new dependencies, and
# the group of each job that was lost.
arrivals = sa.Table(
    "procrastinate_arrivals",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    *(sa.Column(name, ARRAY(sa.BigInteger), **_ids) for name in ("ended", "groups", "waiting", "lost")),
)

# The unique keys of jobs. A key is free again if its time is over, or if its job has started or ended ("until").
uniques = sa.Table(
    "procrastinate_uniques",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("job_id", sa.BigInteger, nullable=False),
    # "start", "end", or "period".
    sa.Column("until", sa.Text, nullable=False),
    sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
    # The end of the period.
    sa.Column("expires_at", sa.DateTime(timezone=True)),
    # No replacement may delay the job beyond this time.
    sa.Column("start_by", sa.DateTime(timezone=True)),
    sa.Index("procrastinate_uniques_job_id_idx", "job_id"),
)

# Workers write the numbers of the code, and operators those that begin with "set", which come first.
limits = sa.Table(
    "procrastinate_limits",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("concurrency", sa.Integer),
    sa.Column("total", sa.Integer),
    sa.Column("set_concurrency", sa.Integer),
    sa.Column("set_total", sa.Integer),
    sa.Column("defined_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    # Counts and seconds, such as "10/1.0 1000/3600.0".
    sa.Column("rates", sa.Text),
    sa.Column("total_rates", sa.Text),
    sa.Column("set_rates", sa.Text),
    sa.Column("set_total_rates", sa.Text),
    sa.Column("fair", sa.Boolean),
)

# The key of each fair limit that got the last slot. An admission alone writes it.
turns = sa.Table(
    "procrastinate_turns",
    metadata,
    sa.Column("limit_name", sa.Text, primary_key=True),
    sa.Column("last_key", sa.Text, nullable=False),
)

# Keys of limits of which no job gets a slot until a time.
hold_offs = sa.Table(
    "procrastinate_hold_offs",
    metadata,
    sa.Column("limit_name", sa.Text, primary_key=True),
    sa.Column("limit_key", sa.Text, primary_key=True),
    sa.Column("until", sa.DateTime(timezone=True), nullable=False),
)

# The starts of jobs whose limit has a rate, as long as a window may reach them. A trigger writes them.
starts = sa.Table(
    "procrastinate_starts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("limit_name", sa.Text, nullable=False),
    sa.Column("limit_key", sa.Text, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    # How many starts of the rate it is. NULL means one.
    sa.Column("weight", sa.Integer),
    sa.Index("procrastinate_starts_key_idx", "limit_name", "limit_key", "at"),
    sa.Index("procrastinate_starts_at_idx", "limit_name", "at"),
)

# Keys in line of which no more jobs may start now, and when an admission must look at them.
windows = sa.Table(
    "procrastinate_windows",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("limit_name", sa.Text, nullable=False),
    sa.Column("limit_key", sa.Text, nullable=False),
    sa.Column("opens_at", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("limit_name", "limit_key", name="procrastinate_windows_unique"),
    sa.Index("procrastinate_windows_opens_at_idx", "opens_at"),
)

# What may have become free, a lock or a slot of a limit. Triggers append, and an admission deletes.
openings = sa.Table(
    "procrastinate_openings",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("lock", sa.Text),
    sa.Column("limit_name", sa.Text),
    sa.Column("limit_key", sa.Text),
)


def status_literal(status: Status) -> sa.ColumnElement[Any]:
    """Return the status as a literal of the statement.

    PostgreSQL must see the literal to prove that a query stays inside a partial index. With a bound parameter, the
    generic plan of a prepared statement cannot use the index.
    """
    return sa.literal_column(f"'{status.value}'::procrastinate_job_status", type_=status_type)


def event_literal(type_: EventType) -> sa.ColumnElement[Any]:
    """Return the type of an event as a literal of the statement."""
    return sa.literal_column(f"'{type_.value}'::procrastinate_job_event_type", type_=event_type)


TODO = status_literal(Status.TODO)
DOING = status_literal(Status.DOING)
HAS_KNOWN_STATUS = jobs.c.status.in_([status_literal(status) for status in Status])
"""A later release that was rolled back may have left jobs with another status. What reads a job finds none of them."""
PROMOTED: sa.ColumnElement[int] = sa.literal_column(str(Readiness.PROMOTED.value))
PARKED: sa.ColumnElement[int] = sa.literal_column(str(Readiness.PARKED.value))
WAITS_FOR_OTHERS: sa.ColumnElement[int] = sa.literal_column(str(Readiness.WAITS_FOR_OTHERS.value))
IN_LINE: sa.ColumnElement[int] = sa.literal_column(str(Readiness.IN_LINE.value))
UNDECIDED: sa.ColumnElement[int] = sa.literal_column(str(Readiness.UNDECIDED.value))

QUEUEING_LOCK_CONSTRAINT = "procrastinate_jobs_queueing_lock_idx_v1"
"""The name that 3.x has for it. Its writers find out by this name that a queueing lock is taken."""
LOCK_CONSTRAINT = "procrastinate_jobs_lock_holder_idx"


def one_more(count: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return a count of attempts or rescues plus one, capped at the maximum of the column.

    Any writer can set the count to that maximum. An overflow fails the whole statement with all its jobs.
    """
    return sa.func.least(count, LARGEST_COUNT - 1) + 1


def due_at(table: sa.FromClause = jobs) -> sa.ColumnElement[Any]:
    """Return the time at which a waiting job falls due: its schedule, or -infinity."""
    long_ago = sa.literal_column("'-infinity'::timestamptz", type_=sa.DateTime(timezone=True))
    return sa.func.coalesce(table.c.scheduled_at, long_ago, type_=sa.DateTime(timezone=True))


def is_ready_by_its_row(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Select jobs with neither a schedule nor a lock. A fetch takes them without a look at other jobs."""
    return sa.and_(table.c.scheduled_at.is_(None), table.c.lock.is_(None))


def is_ready(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "a fetch may claim this job", the predicate of the index for named queues."""
    return sa.and_(
        table.c.status == TODO,
        sa.or_(
            table.c.readiness == PROMOTED,
            is_ready_by_its_row(table),
        ),
    )


def is_ready_in_any_queue(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "a fetch may claim this job", the predicate of the index for all queues.

    No waiting job has ``abort_requested``, so this equals :func:`is_ready`. The extra term keeps a fetch from named
    queues off this index: without statistics, PostgreSQL would walk through all jobs of the other queues.
    """
    return sa.and_(is_ready(table), sa.not_(table.c.abort_requested))


def is_upcoming(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "this job waits for its schedule or for a decision on its lock"."""
    return sa.and_(
        table.c.status == TODO,
        table.c.readiness == UNDECIDED,
        sa.or_(table.c.scheduled_at.is_not(None), table.c.lock.is_not(None)),
    )


def is_parked(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "this job waits behind the holder of its lock"."""
    return sa.and_(table.c.status == TODO, table.c.readiness == PARKED)


def is_in_line(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "this job waits for a slot of its limit"."""
    return sa.and_(table.c.status == TODO, table.c.readiness == IN_LINE)


def waits_for_others(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "this step of a workflow waits for other jobs"."""
    return sa.and_(table.c.status == TODO, table.c.readiness == WAITS_FOR_OTHERS)


def holds_slot(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "this job has a slot of its limit": it runs, or a fetch may claim it."""
    return sa.and_(
        table.c.limit_name.is_not(None),
        sa.or_(table.c.status == DOING, sa.and_(table.c.status == TODO, table.c.readiness == PROMOTED)),
    )


def weight_of(table: sa.FromClause = jobs) -> sa.ColumnElement[int]:
    """Return how many slots of its limit a job takes, and as how many starts of a rate it counts.

    Plain SQL may have stored a weight below 1, with which an admission would divide by zero or give away slots without
    end.
    """
    return at_least_one(table.c.limit_weight)


def at_least_one(weight: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return a stored weight, and 1 in place of NULL and of numbers below 1."""
    return sa.func.greatest(weight, 1)


def slots_of(table: sa.FromClause = jobs) -> sa.ColumnElement[int]:
    """Return the number of slots that the selected jobs take together."""
    return sa.func.coalesce(sa.func.sum(weight_of(table)), 0)


def holds_lock(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "this job holds its lock": it runs or is ready. A unique index allows one job per lock."""
    return sa.and_(
        table.c.lock.is_not(None),
        sa.or_(
            table.c.status == DOING,
            sa.and_(table.c.status == TODO, table.c.readiness == PROMOTED),
        ),
    )


def holds_queueing_lock(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """Return the condition "this job holds its queueing lock". A unique index allows one waiting job per lock."""
    return sa.and_(table.c.status == TODO, table.c.queueing_lock.is_not(None))


# One index for a fetch from named queues and one for a fetch from all queues, each for an ordered scan that stops at
# the limit. The second index makes an insert about 10 % slower (1,000 rows a statement) and saves the default worker a
# scan per queue name.
sa.Index(
    "procrastinate_jobs_ready_queue_idx",
    jobs.c.queue_name,
    jobs.c.priority.desc(),
    jobs.c.id,
    postgresql_where=is_ready(),
)
sa.Index("procrastinate_jobs_ready_idx", jobs.c.priority.desc(), jobs.c.id, postgresql_where=is_ready_in_any_queue())
sa.Index(
    "procrastinate_jobs_upcoming_idx",
    due_at(),
    jobs.c.priority.desc(),
    jobs.c.id,
    postgresql_where=is_upcoming(),
)
sa.Index(
    "procrastinate_jobs_parked_idx",
    jobs.c.lock,
    jobs.c.priority.desc(),
    jobs.c.id,
    postgresql_where=is_parked(),
)
sa.Index(
    "procrastinate_jobs_line_idx",
    jobs.c.limit_name,
    jobs.c.limit_key,
    jobs.c.priority.desc(),
    jobs.c.id,
    postgresql_where=is_in_line(),
)
sa.Index("procrastinate_jobs_slots_idx", jobs.c.limit_name, jobs.c.limit_key, postgresql_where=holds_slot())
sa.Index("procrastinate_jobs_steps_idx", jobs.c.id, postgresql_where=waits_for_others())
sa.Index(LOCK_CONSTRAINT, jobs.c.lock, unique=True, postgresql_where=holds_lock())
sa.Index(QUEUEING_LOCK_CONSTRAINT, jobs.c.queueing_lock, unique=True, postgresql_where=holds_queueing_lock())
sa.Index(
    "procrastinate_jobs_workflow_idx",
    jobs.c.workflow_id,
    jobs.c.status,
    postgresql_where=jobs.c.workflow_id.is_not(None),
)
sa.Index("procrastinate_jobs_doing_idx", jobs.c.worker_id, postgresql_where=jobs.c.status == DOING)
sa.Index(
    "procrastinate_jobs_finished_idx",
    jobs.c.status,
    jobs.c.finished_at,
    jobs.c.id,
    postgresql_where=jobs.c.finished_at.is_not(None),
)
