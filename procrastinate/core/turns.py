"""Turns: the keys of a fair limit get their slots one after the other.

A fair limit gives out no more slots than the workers of its queues can run jobs at once. A job that is not admitted yet
can still be overtaken by a key whose turn it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from procrastinate.core.arrays import array_param
from procrastinate.core.share import LimitTerms
from procrastinate.core.tables import holds_slot, jobs, turns, workers

_NAME = sa.bindparam("name", type_=sa.Text())


def queues_of_slots(name: sa.ColumnElement[str]) -> sa.ColumnElement[Any]:
    """Return the array of the queues whose jobs have slots of a limit."""
    holder = jobs.alias("holder")
    queues = sa.select(sa.cast(holder.c.queue_name, sa.Text)).where(holds_slot(holder), holder.c.limit_name == name)
    return sa.func.array(queues.distinct().correlate_except(holder).scalar_subquery(), type_=ARRAY(sa.Text))


def capacity_of(*queues: sa.ColumnElement[Any]) -> sa.ScalarSelect[int]:
    """Return how many jobs the workers of some queues can run at once, or 1 if there are no workers.

    A worker of an older release says neither its queues nor how many jobs it runs at once.

    Parameters
    ----------
    queues:
        Arrays of their names.
    """
    takes_all = sa.func.coalesce(sa.func.cardinality(workers.c.queues) == 0, sa.true())
    takes_some = [workers.c.queues.overlap(names) for names in queues]
    number = sa.func.coalesce(sa.func.sum(sa.func.coalesce(workers.c.concurrency, 1)), 0)
    serving = sa.select(sa.func.greatest(number, 1)).where(sa.or_(takes_all, *takes_some))
    return serving.correlate_except(workers).scalar_subquery()


_CAPACITY = sa.select(capacity_of(array_param("queues", sa.Text())))


def within_capacity(connection: sa.Connection, terms: LimitTerms, queues: Collection[str | None]) -> LimitTerms:
    """Return the terms, those of a fair limit with the number of jobs that its workers can run at once.

    Parameters
    ----------
    queues:
        The queues of the next jobs in line, and of the jobs that have slots. The workers of these count.
    """
    if not terms.is_fair:
        return terms
    names = sorted({name for name in queues if name is not None})
    capacity = connection.execute(_CAPACITY, {"queues": names}).scalar_one()
    return dataclasses.replace(terms, capacity=capacity)


_READ_TURN = sa.select(turns.c.last_key).where(turns.c.limit_name == _NAME)


def read_last_turn(connection: sa.Connection, name: str) -> str | None:
    """Return the key of a limit that got the last slot, or ``None`` if none has got one yet."""
    return connection.execute(_READ_TURN, {"name": name}).scalar_one_or_none()


_new = insert(turns).values(limit_name=_NAME, last_key=sa.bindparam("key", type_=sa.Text()))
_KEEP_TURN = _new.on_conflict_do_update(index_elements=["limit_name"], set_={"last_key": _new.excluded.last_key})


def keep_last_turn(connection: sa.Connection, name: str, key: str) -> None:
    """Note the key that got the last slot. Only an admission writes it, so no other transaction locks the row."""
    connection.execute(_KEEP_TURN, {"name": name, "key": key})
