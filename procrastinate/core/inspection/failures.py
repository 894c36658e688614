"""The load of the failures: the newest errors, in groups of errors that are alike."""

from __future__ import annotations

import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from procrastinate.core.enums import Status
from procrastinate.core.inspection.bounds import first_rows, load, moment, to_count
from procrastinate.core.inspection.records import Failure, Failures
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.tables import errors, jobs, status_literal

_LOOKED_AT = 5_000
_SHOWN = 100
_LONGEST_MESSAGE = 200
_SHOWN_TASKS = 5

# Identifiers in hexadecimal form, then numbers.
_VARYING: sa.ColumnElement[str] = sa.literal_column(r"'(0x)?[0-9a-f]{8,}(-[0-9a-f]{4,})*|[0-9]+'")

_newest = first_rows(
    sa.select(
        errors.c.id,
        errors.c.job_id,
        errors.c.at,
        errors.c.exception_class,
        sa.func.regexp_replace(
            sa.func.left(sa.func.split_part(errors.c.message, sa.literal_column(r"E'\n'"), 1), _LONGEST_MESSAGE),
            _VARYING,
            sa.literal_column("'#'"),
            sa.literal_column("'gi'"),
        ).label("alike"),
    ).order_by(errors.c.id.desc()),
    _LOOKED_AT + 1,
    "newest",
)
_FAILED = jobs.c.status == status_literal(Status.FAILED)
_tasks = sa.func.array_agg(sa.distinct(jobs.c.task_name), type_=ARRAY(sa.Text)).filter(jobs.c.task_name.is_not(None))
_GROUPS = (
    sa.select(
        _newest.c.exception_class,
        _newest.c.alike,
        sa.func.count().label("number"),
        sa.func.count(sa.distinct(_newest.c.job_id)).label("jobs"),
        _tasks.label("tasks"),
        moment(sa.func.min(_newest.c.at)).label("first_at"),
        moment(sa.func.max(_newest.c.at)).label("last_at"),
        (sa.func.array_agg(aggregate_order_by(_newest.c.job_id, _newest.c.id.desc()), type_=ARRAY(sa.BigInteger)))[
            1
        ].label("last_job_id"),
        sa.func.count(sa.distinct(_newest.c.job_id)).filter(_FAILED).label("still_failed"),
        sa.func.sum(sa.func.count()).over().label("total"),
    )
    .select_from(_newest.outerjoin(jobs, jobs.c.id == _newest.c.job_id))
    .group_by(_newest.c.exception_class, _newest.c.alike)
    .order_by(sa.func.max(_newest.c.id).desc())
    .limit(sa.literal_column(str(_SHOWN)))
)
_OLDEST = sa.select(moment(sa.func.min(_newest.c.at)))


@may_lag
@load
def load_failures(connection: sa.Connection, now: datetime.datetime) -> Failures:
    """Return the groups of the newest 5,000 errors, the group with the newest error first."""
    rows = connection.execute(_GROUPS).all()
    return Failures(
        now=now,
        looked_at=to_count(int(rows[0].total) if rows else 0, _LOOKED_AT),
        since=connection.execute(_OLDEST).scalar_one(),
        groups=tuple(
            Failure(
                exception_class=row.exception_class,
                message=row.alike,
                count=row.number,
                jobs=row.jobs,
                tasks=tuple(row.tasks or ())[:_SHOWN_TASKS],
                first_at=row.first_at,
                last_at=row.last_at,
                last_job_id=row.last_job_id,
                still_failed=row.still_failed,
            )
            for row in rows
        ),
    )
