"""The loads of the limits: what each allows, who has its slots, and what is in line."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.admit import TERMS
from procrastinate.core.arrays import each_of
from procrastinate.core.inspection.bounds import Count, first_rows, load, moment, to_count
from procrastinate.core.inspection.limit_facts import LimitFacts, read_limit
from procrastinate.core.inspection.limit_records import (
    JobOfLimit,
    LimitKeyDetails,
    LimitKeys,
    LimitKeyState,
    Limits,
    LimitState,
    OfLimit,
)
from procrastinate.core.inspection.rows import NEIGHBOUR, neighbour, started_at
from procrastinate.core.limits import has_numbers
from procrastinate.core.operation_marks import may_lag
from procrastinate.core.rates import RATES, read_rates
from procrastinate.core.tables import DOING, hold_offs, holds_slot, is_in_line, jobs, limits, weight_of, windows

_SHOWN = 200
_COUNTED = 50_000
"""Maximum number of jobs in line, and of jobs with slots, that are counted for all limits or keys together."""
_LONGEST_COUNT = 10_000
_KEYS = 25
_JOBS_OF_KEY = 50

_NAME = sa.bindparam("limit_name_is", type_=sa.Text())
_KEY = sa.bindparam("limit_key_is", type_=sa.Text())
_AFTER = sa.bindparam("after_key", type_=sa.Text())
_ONE = sa.literal_column("1", type_=sa.Integer())


def _walk(condition: Any, column: str, most: int, *, of_limit: bool) -> sa.Select[Any]:
    """Return the query for the values of a column, smallest first: one probe of the index for each value."""
    first, further = jobs.alias(), jobs.alias()
    start = [condition(first), *([first.c.limit_name == _NAME, first.c[column] > _AFTER] if of_limit else [])]
    smallest = sa.select(sa.func.min(first.c[column])).where(*start).scalar_subquery()
    found = sa.select(smallest.label("value"), _ONE.label("step")).cte(recursive=True)
    following = [condition(further), *([further.c.limit_name == _NAME] if of_limit else [])]
    then = sa.select(sa.func.min(further.c[column])).where(*following, further.c[column] > found.c.value)
    found = found.union_all(
        sa.select(then.scalar_subquery(), found.c.step + 1).where(
            found.c.value.is_not(None), found.c.step < sa.literal_column(str(most))
        )
    )
    return sa.select(found.c.value).where(found.c.value.is_not(None))


_NAMES = [_walk(condition, "limit_name", _SHOWN + 1, of_limit=False) for condition in (is_in_line, holds_slot)]
_KEYS_OF_LIMIT = [_walk(condition, "limit_key", _KEYS + 1, of_limit=True) for condition in (is_in_line, holds_slot)]

_DEFINITIONS: Any = sa.select(
    *TERMS,
    *RATES,
    has_numbers().label("is_defined"),
    sa.or_(
        *(limits.c[name].is_not(None) for name in ("set_concurrency", "set_total", "set_rates", "set_total_rates"))
    ).label("is_set"),
)
_DEFINED: Any = _DEFINITIONS.order_by(limits.c.name).limit(sa.literal_column(str(_SHOWN + 1)))
_DEFINITION: Any = _DEFINITIONS.where(limits.c.name == _NAME)


def _counts(places: sa.FromClause, place: list[sa.ColumnElement[bool]], limit: int) -> sa.Select[Any]:
    """Return the query for the slots that are taken, and for the jobs in line, at each of the places."""
    holders: Any = sa.select(weight_of().label("weight"), (jobs.c.status == DOING).label("runs"))
    holders = holders.where(holds_slot(), *place).order_by(jobs.c.limit_key).correlate(places)
    slots = first_rows(holders, limit + 1, "slots")
    taken = (
        sa.select(
            sa.func.coalesce(sa.func.sum(slots.c.weight), 0).label("held"),
            sa.func.count().label("jobs"),
            sa.func.count().filter(slots.c.runs).label("running"),
        )
        .select_from(slots)
        .lateral("taken")
    )
    waiting = first_rows(
        sa.select(jobs.c.id)
        .where(is_in_line(), *place)
        .order_by(jobs.c.limit_key, jobs.c.priority.desc(), jobs.c.id)
        .correlate(places),
        limit + 1,
        "waiting",
    )
    line = sa.select(sa.func.count().label("in_line")).select_from(waiting).lateral("line")
    return sa.select(*places.c, taken, line).select_from(places.join(taken, sa.true()).join(line, sa.true()))


def _of_names(limit: int) -> sa.Select[Any]:
    name = each_of("names", sa.Text(), "name", name="of_names")
    return _counts(name, [jobs.c.limit_name == name.c.name], limit)


def _of_keys(limit: int) -> sa.Select[Any]:
    key = each_of("keys", sa.Text(), "key", name="of_keys")
    counts = _counts(key, [jobs.c.limit_name == _NAME, jobs.c.limit_key == key.c.key], limit)
    held_off = sa.select(hold_offs.c.until).where(
        hold_offs.c.limit_name == _NAME, hold_offs.c.limit_key == key.c.key, hold_offs.c.until > sa.func.now()
    )
    window = sa.select(windows.c.opens_at).where(
        windows.c.limit_name == _NAME, windows.c.limit_key == key.c.key, windows.c.opens_at > sa.func.now()
    )
    opens_at = sa.func.greatest(held_off.scalar_subquery(), window.scalar_subquery())
    return counts.add_columns(moment(opens_at).label("opens_at"))


@may_lag
@load
def load_limits(connection: sa.Connection, now: datetime.datetime) -> Limits:
    """Return the first 200 limits, those included that only jobs name."""
    defined = {row.name: row for row in connection.execute(_DEFINED)}
    names = sorted({*defined, *(name for walk in _NAMES for name in connection.execute(walk).scalars())})
    shown = names[:_SHOWN]
    limit = min(_LONGEST_COUNT, _COUNTED // max(len(shown), 1))
    counts = connection.execute(_of_names(limit), {"names": shown}) if shown else ()
    states = {row.name: _limit_state(row.name, defined.get(row.name), row, limit) for row in counts}
    return Limits(now=now, limits=tuple(states[name] for name in shown), is_more=len(names) > _SHOWN)


@may_lag
@load
def load_limit(
    connection: sa.Connection, now: datetime.datetime, name: str, *, after: str | None = None
) -> LimitKeys | None:
    """Return a limit and 25 of its keys, or ``None`` if there is no such limit.

    Parameters
    ----------
    after:
        The ``next_key`` of the page before.
    """
    of_limit = {"limit_name_is": name}
    definition = connection.execute(_DEFINITION, of_limit).one_or_none()
    keys = _read_keys(connection, name, after)
    if definition is None and not keys and after is None:
        return None
    shown = keys[:_KEYS]
    (of_name,) = connection.execute(_of_names(_LONGEST_COUNT), {"names": [name]})
    limit = _COUNTED // _KEYS
    counts = connection.execute(_of_keys(limit), {"keys": shown, **of_limit}) if shown else ()
    states = {row.key: LimitKeyState(key=row.key, opens_at=row.opens_at, jobs=_of_limit(row, limit)) for row in counts}
    return LimitKeys(
        now=now,
        limit=_limit_state(name, definition, of_name, _LONGEST_COUNT),
        keys=tuple(states[key] for key in shown),
        next_key=shown[-1] if len(keys) > _KEYS else None,
    )


def _read_keys(connection: sa.Connection, name: str, after: str | None) -> list[str]:
    """Return the next keys that have jobs. Every key sorts behind the empty text, which is a key as well."""
    parameters = {"limit_name_is": name, "after_key": after or ""}
    found = {key for walk in _KEYS_OF_LIMIT for key in connection.execute(walk, parameters).scalars()}
    if after is None and connection.execute(_HAS_EMPTY_KEY, parameters).scalar_one():
        found.add("")
    return sorted(found)[: _KEYS + 1]


_HAS_EMPTY_KEY = sa.select(
    sa.or_(
        *(
            sa.exists().where(condition(jobs), jobs.c.limit_name == _NAME, jobs.c.limit_key == sa.literal_column("''"))
            for condition in (is_in_line, holds_slot)
        )
    )
)


def _limit_state(name: str, definition: Any, counts: Any, limit: int) -> LimitState:
    return LimitState(
        name=name,
        is_defined=definition is not None and bool(definition.is_defined),
        is_set=definition is not None and bool(definition.is_set),
        is_fair=definition is not None and bool(definition.fair),
        concurrency=definition and definition.concurrency,
        total=definition and definition.total,
        rates=read_rates(definition.rates) if definition else (),
        total_rates=read_rates(definition.total_rates) if definition else (),
        jobs=_of_limit(counts, limit),
    )


def _of_limit(row: Any, limit: int) -> OfLimit:
    is_cut = row.jobs > limit
    return OfLimit(
        held=Count(number=int(row.held), is_more=is_cut),
        running=Count(number=row.running, is_more=is_cut),
        in_line=to_count(row.in_line, limit),
    )


_STARTED = moment(sa.case((jobs.c.status == DOING, started_at(jobs.c.id)))).label("running_since")
_OF_KEY = (jobs.c.limit_name == _NAME, jobs.c.limit_key == _KEY)
_JOBS: Any = (
    sa.select(*NEIGHBOUR, weight_of().label("weight"), _STARTED)
    .where(*_OF_KEY)
    .order_by(jobs.c.limit_name, jobs.c.limit_key)
    .limit(sa.literal_column(str(_JOBS_OF_KEY)))
)
_HOLDERS: Any = _JOBS.where(holds_slot())
_LINE: Any = _JOBS.where(is_in_line()).order_by(jobs.c.priority.desc(), jobs.c.id)


def _job_of_limit(row: Any) -> JobOfLimit:
    job = neighbour(row)
    assert job is not None
    return JobOfLimit(job=job, weight=row.weight, running_since=row.running_since)


def _next_start(facts: LimitFacts | None, now: datetime.datetime) -> datetime.datetime | None:
    if facts is None:
        return None
    held_off = facts.held_off_for and now + datetime.timedelta(seconds=facts.held_off_for)
    return max((time for time in (facts.next_start, held_off) if time), default=None)


@may_lag
@load
def load_limit_key(connection: sa.Connection, now: datetime.datetime, name: str, key: str) -> LimitKeyDetails:
    """Return who has the slots of a key, and the first jobs of its line in the order in which they start."""
    of_key = {"limit_name_is": name, "limit_key_is": key}
    holders = tuple(map(_job_of_limit, connection.execute(_HOLDERS, of_key)))
    line = tuple(map(_job_of_limit, connection.execute(_LINE, of_key)))
    (counts,) = connection.execute(_of_keys(_LONGEST_COUNT), {"keys": [key], "limit_name_is": name})
    queue = line[0].job.queue_name if line else ""
    facts = read_limit(connection, name, key, queue)
    return LimitKeyDetails(
        now=now,
        name=name,
        key=key,
        is_defined=facts is not None,
        concurrency=facts.concurrency if facts else None,
        heaviest=facts.heaviest if facts else None,
        next_start=_next_start(facts, now),
        jobs=_of_limit(counts, _LONGEST_COUNT),
        holders=tuple(sorted(holders, key=lambda one: (one.running_since is None, one.job.id))),
        line=line,
    )
