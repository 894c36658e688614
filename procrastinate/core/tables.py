"""The tables, as SQLAlchemy sees them. The Alembic revisions create them; a test holds the two together.

Columns, types and values of the first twelve columns of ``procrastinate_jobs`` and of the next three tables are those
of Procrastinate 3.x. ``readiness``, ``rescues`` and ``finished_at`` of the jobs and ``called_for``,
``heartbeat_interval`` and ``stalled_timeout`` of the workers are this project's own, and so are the tables
``procrastinate_results`` and ``procrastinate_errors``.

There are no foreign keys between the tables, on purpose: a check per event row costs more than the event
itself, and deleting a worker would look through every job it ever ran. Triggers (``alembic/versions``)
do what the keys would have done, once per statement.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

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
    sa.CheckConstraint("NOT (status = 'todo' AND abort_requested)", name="procrastinate_jobs_todo_not_aborted"),
)

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
    # The queues of whose new jobs it is to be notified: none named, all of them; NULL, it looks by itself.
    sa.Column("called_for", ARRAY(sa.Text), server_default=sa.text("'{}'::text[]")),
    # Seconds. A worker of an older release says neither.
    sa.Column("heartbeat_interval", sa.Double),
    sa.Column("stalled_timeout", sa.Double),
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


def status_literal(status: Status) -> sa.ColumnElement[Any]:
    """The status written into the statement itself.

    Only so can PostgreSQL prove that a query stays inside a partial index: with a bound parameter,
    a generic plan of a prepared statement could not use the index at all.
    """
    return sa.literal_column(f"'{status.value}'::procrastinate_job_status", type_=status_type)


TODO = status_literal(Status.TODO)
DOING = status_literal(Status.DOING)
PROMOTED: sa.ColumnElement[int] = sa.literal_column(str(Readiness.PROMOTED.value))
PARKED: sa.ColumnElement[int] = sa.literal_column(str(Readiness.PARKED.value))
UNDECIDED: sa.ColumnElement[int] = sa.literal_column(str(Readiness.UNDECIDED.value))

QUEUEING_LOCK_CONSTRAINT = "procrastinate_jobs_queueing_lock_idx"
LOCK_CONSTRAINT = "procrastinate_jobs_lock_holder_idx"


_LARGEST_INTEGER = 2**31 - 1


def one_more(count: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return a count of attempts or rescues plus one, at most the largest that the column holds.

    Any writer can have set it to that. An overflow fails the whole statement, and with it every other job in it.
    """
    return sa.func.least(count, _LARGEST_INTEGER - 1) + 1


def due_at(table: sa.FromClause = jobs) -> sa.ColumnElement[Any]:
    """When a waiting job falls due: its schedule, or long ago."""
    long_ago = sa.literal_column("'-infinity'::timestamptz", type_=sa.DateTime(timezone=True))
    return sa.func.coalesce(table.c.scheduled_at, long_ago, type_=sa.DateTime(timezone=True))


def is_ready(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """A fetch may take this job: the predicate of the index for named queues."""
    return sa.and_(
        table.c.status == TODO,
        sa.or_(
            table.c.readiness == PROMOTED,
            sa.and_(table.c.scheduled_at.is_(None), table.c.lock.is_(None)),
        ),
    )


def is_ready_in_any_queue(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """A fetch may take this job: the predicate of the index for all queues.

    No waiting job has ``abort_requested``, so this is the same as :func:`is_ready`. It is said so that a fetch from
    named queues, which does not say it, cannot use this index: without statistics, PostgreSQL would walk it through
    all jobs of the other queues.
    """
    return sa.and_(is_ready(table), sa.not_(table.c.abort_requested))


def is_upcoming(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """This job waits for its time, or for its lock to be looked at."""
    return sa.and_(
        table.c.status == TODO,
        table.c.readiness == UNDECIDED,
        sa.or_(table.c.scheduled_at.is_not(None), table.c.lock.is_not(None)),
    )


def is_parked(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """This job waits behind the holder of its lock."""
    return sa.and_(table.c.status == TODO, table.c.readiness == PARKED)


def holds_lock(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """This job has its lock: it runs, or may be fetched. One job a lock, by a unique index."""
    return sa.and_(
        table.c.lock.is_not(None),
        sa.or_(
            table.c.status == DOING,
            sa.and_(table.c.status == TODO, table.c.readiness == PROMOTED),
        ),
    )


def holds_queueing_lock(table: sa.FromClause = jobs) -> sa.ColumnElement[bool]:
    """This job is the one that waits under its queueing lock. One job a queueing lock, by a unique index."""
    return sa.and_(table.c.status == TODO, table.c.queueing_lock.is_not(None))


# A fetch from named queues, and a fetch from all queues, each an ordered scan that stops at the limit.
# The second index costs an insert about 10 % (1,000 rows a statement), and spares the default worker
# a scan per queue name.
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
sa.Index(LOCK_CONSTRAINT, jobs.c.lock, unique=True, postgresql_where=holds_lock())
sa.Index(QUEUEING_LOCK_CONSTRAINT, jobs.c.queueing_lock, unique=True, postgresql_where=holds_queueing_lock())
sa.Index("procrastinate_jobs_doing_idx", jobs.c.worker_id, postgresql_where=jobs.c.status == DOING)
sa.Index(
    "procrastinate_jobs_finished_idx",
    jobs.c.status,
    jobs.c.finished_at,
    postgresql_where=jobs.c.finished_at.is_not(None),
)
