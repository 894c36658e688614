"""What is known of the limit of a job: its numbers, who has its slots, and which jobs come first."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.admit import TERMS, terms_of
from procrastinate.core.hold_offs import read_hold_offs
from procrastinate.core.inspection.bounds import first_rows
from procrastinate.core.inspection.facts import COUNTED, JobFacts, count_of, first_of_line, starts_before
from procrastinate.core.lines import head_of_line, read_held
from procrastinate.core.rates import RATES, next_start
from procrastinate.core.share import LimitTerms
from procrastinate.core.tables import events, holds_slot, is_in_line, jobs, limits, weight_of
from procrastinate.core.turns import within_capacity
from procrastinate.core.watchers import age


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LimitFacts:
    """The numbers of a limit that hold, and how many slots are taken.

    A fair limit has a ``capacity``, which is the number of jobs that may have slots, ``jobs_in_all`` of which have one.
    ``heaviest`` is the largest weight that a job may have, and ``next_weight`` that of the next job of the key.

    ``oldest_id`` is the job of the key with the lowest id that has a slot. ``oldest_age`` are the seconds since its
    last event. ``next_start`` is the time before which the rates of the limit let no more jobs of the key start, and
    ``next_start_in`` the seconds until then. ``held_off_for`` are the seconds for which the key is still held off.
    """

    concurrency: int | None
    total: int | None
    held: int
    held_in_all: int
    jobs_in_all: int
    capacity: int | None
    heaviest: int
    next_weight: int
    oldest_id: int | None
    oldest_age: float | None
    next_start: datetime.datetime | None
    next_start_in: float
    held_off_for: float | None = None


def read_limit(connection: sa.Connection, name: str, key: str, queue: str) -> LimitFacts | None:
    """Return what holds for the jobs of a key and a queue, or ``None`` if the limit is not defined."""
    row = connection.execute(sa.select(*TERMS, *RATES, sa.func.now().label("now")).where(limits.c.name == name)).first()
    if row is None or terms_of(row) == LimitTerms():
        return None
    terms = terms_of(row)
    if terms.is_fair:
        terms = within_capacity(connection, terms, {queue, *read_held(connection, name, terms).queues})
    next_weight = _read_next_weight(connection, name, key, terms.heaviest)
    start = next_start(connection, name, key, terms.rates, terms.total_rates, weight=next_weight)
    held_off_until = read_hold_offs(connection, name, [key]).get(key)
    of_limit: sa.Select[Any] = sa.select(weight_of().label("weight")).where(holds_slot(), jobs.c.limit_name == name)
    of_key = of_limit.where(jobs.c.limit_key == key)
    oldest_id, oldest_age = _read_oldest(connection, name, key)
    in_all = _count_slots(connection, of_limit)
    return LimitFacts(
        concurrency=terms.concurrency,
        total=terms.total,
        held=_count_slots(connection, of_key).slots,
        held_in_all=in_all.slots,
        jobs_in_all=in_all.jobs,
        capacity=terms.capacity,
        heaviest=terms.heaviest,
        next_weight=next_weight,
        oldest_id=oldest_id,
        oldest_age=oldest_age,
        next_start=start,
        next_start_in=0.0 if start is None else (start - row.now).total_seconds(),
        held_off_for=None if held_off_until is None else (held_off_until - row.now).total_seconds(),
    )


def _read_oldest(connection: sa.Connection, name: str, key: str) -> tuple[int | None, float | None]:
    """Return the job with the lowest id that has a slot, among the first 10,001, and the seconds since its last event.

    A join with the events would read those of all jobs, if PostgreSQL has no statistics or expects many jobs.
    """
    of_key = sa.select(jobs.c.id).where(holds_slot(), jobs.c.limit_name == name, jobs.c.limit_key == key)
    holders = first_rows(of_key.order_by(jobs.c.limit_name, jobs.c.limit_key), COUNTED + 1, "holders")
    first = connection.execute(sa.select(sa.func.min(holders.c.id))).scalar_one()
    if first is None:
        return None, None
    of_job: Any = sa.select(age(sa.func.max(events.c.at))).where(events.c.job_id == first, events.c.at <= sa.func.now())
    return first, connection.execute(of_job).scalar_one()


def _read_next_weight(connection: sa.Connection, name: str, key: str, heaviest: int) -> int:
    """Return the weight of the first job in line that is not too heavy, or 1 if none is in line."""
    first = head_of_line(
        weight_of,
        name=sa.literal(name, sa.Text()),
        key=sa.literal(key, sa.Text()),
        heaviest=sa.literal(heaviest, sa.Integer()),
    )
    return connection.execute(first).scalar_one_or_none() or 1


def _count_slots(connection: sa.Connection, held: sa.Select[Any]) -> sa.Row[Any]:
    """Count the jobs that have slots, at most 10,001 of them, and their slots."""
    some = first_rows(held, COUNTED + 1, "held")
    number = sa.func.coalesce(sa.func.sum(some.c.weight), 0)
    return connection.execute(sa.select(sa.func.count().label("jobs"), number.label("slots")).select_from(some)).one()


def count_in_line(connection: sa.Connection, job: JobFacts) -> int:
    """Return the number of jobs of the key that get a slot before the job, at most 10,001."""
    first = first_of_line(is_in_line() & (jobs.c.limit_name == job.limit_name) & (jobs.c.limit_key == job.limit_key))
    return count_of(connection, first, starts_before(first, job))
