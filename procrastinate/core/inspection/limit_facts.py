"""What is known of the limit of a job: its numbers, who has its slots, and which jobs come first."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.admit import TERMS, terms_of
from procrastinate.core.hold_offs import read_hold_offs
from procrastinate.core.inspection.bounds import bounded_count
from procrastinate.core.inspection.facts import COUNTED, JobFacts
from procrastinate.core.rates import RATES, next_start
from procrastinate.core.share import LimitTerms
from procrastinate.core.tables import events, holds_slot, is_in_line, jobs, limits
from procrastinate.core.turns import within_capacity


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitFacts:
    """The numbers of a limit that hold, and how many slots are taken. A fair limit has a ``total``.

    ``oldest_id`` is the job of the key with the lowest id that has a slot. ``oldest_age`` are the seconds since its
    last event. ``next_start`` is the time before which the rates of the limit let no more jobs of the key start, and
    ``next_start_in`` the seconds until then. ``held_off_for`` are the seconds for which the key is still held off.
    """

    concurrency: int | None
    total: int | None
    held: int
    held_in_all: int
    oldest_id: int | None
    oldest_age: float | None
    next_start: datetime.datetime | None
    next_start_in: float
    held_off_for: float | None = None


def read_limit(connection: sa.Connection, name: str, key: str) -> LimitFacts | None:
    """Return what holds for a key of a limit, or ``None`` if the limit is not defined."""
    row = connection.execute(sa.select(*TERMS, *RATES, sa.func.now().label("now")).where(limits.c.name == name)).first()
    if row is None or terms_of(row) == LimitTerms():
        return None
    terms = within_capacity(connection, terms_of(row))
    start = next_start(connection, name, key, terms.rates, terms.total_rates)
    held_off_until = read_hold_offs(connection, name, [key]).get(key)
    of_limit: sa.Select[Any] = sa.select(sa.literal_column("1")).where(holds_slot(), jobs.c.limit_name == name)
    of_key = of_limit.where(jobs.c.limit_key == key)
    oldest = (
        sa.select(jobs.c.id, sa.extract("epoch", sa.func.now() - sa.func.max(events.c.at)).label("age"))
        .join(events, events.c.job_id == jobs.c.id)
        .where(holds_slot(), jobs.c.limit_name == name, jobs.c.limit_key == key, events.c.at <= sa.func.now())
        .group_by(jobs.c.id)
        .order_by(jobs.c.id)
        .limit(1)
    )
    first = connection.execute(oldest).one_or_none()
    return LimitFacts(
        concurrency=terms.concurrency,
        total=terms.total,
        held=connection.execute(sa.select(bounded_count(of_key, COUNTED))).scalar_one(),
        held_in_all=connection.execute(sa.select(bounded_count(of_limit, COUNTED))).scalar_one(),
        oldest_id=None if first is None else first.id,
        oldest_age=None if first is None else float(first.age),
        next_start=start,
        next_start_in=0.0 if start is None else (start - row.now).total_seconds(),
        held_off_for=None if held_off_until is None else (held_off_until - row.now).total_seconds(),
    )


def count_in_line(connection: sa.Connection, job: JobFacts) -> int:
    """Return the number of jobs of the key that get a slot before the job, at most 10,001."""
    line: sa.Select[Any] = (
        sa.select(sa.literal_column("1"))
        .where(is_in_line(), jobs.c.limit_name == job.limit_name, jobs.c.limit_key == job.limit_key)
        .where(sa.or_(jobs.c.priority > job.priority, sa.and_(jobs.c.priority == job.priority, jobs.c.id < job.id)))
        .order_by(jobs.c.priority.desc(), jobs.c.id)
    )
    return connection.execute(sa.select(bounded_count(line, COUNTED))).scalar_one()
