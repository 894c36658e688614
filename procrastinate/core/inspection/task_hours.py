"""What workers told of each task within the last hour."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import first_rows
from procrastinate.core.inspection.records import TaskHour
from procrastinate.core.statistics import BOUNDS, BUCKETS, MINUTE, add_up
from procrastinate.core.tables import statistics

_MOST_ROWS = 50_000
_HOUR = datetime.timedelta(hours=1)

_rows = first_rows(
    sa.select(
        statistics.c.task_name,
        statistics.c.outcome,
        statistics.c.count,
        statistics.c.run_histogram,
        statistics.c.wait_histogram,
    )
    .where(
        statistics.c.seconds == sa.literal_column(str(MINUTE)),
        statistics.c.at > sa.func.now() - sa.literal(_HOUR, sa.Interval()),
    )
    .order_by(statistics.c.at.desc()),
    _MOST_ROWS,
    "minutes",
)

_BY_TASK: Any = sa.select(
    _rows.c.task_name,
    _rows.c.outcome,
    add_up(_rows.c.count).label("number"),
    *(add_up(_rows.c.run_histogram[number]).label(f"run_{number}") for number in range(1, BUCKETS + 1)),
    *(add_up(_rows.c.wait_histogram[number]).label(f"wait_{number}") for number in range(1, BUCKETS + 1)),
).group_by(_rows.c.task_name, _rows.c.outcome)


def read_task_hours(connection: sa.Connection) -> dict[str, TaskHour]:
    """Return the last hour of each task of which a worker told."""
    rows: dict[str, list[Any]] = {}
    for row in connection.execute(_BY_TASK):
        rows.setdefault(row.task_name, []).append(row)
    return {name: _hour(of_task) for name, of_task in rows.items()}


def _hour(rows: list[Any]) -> TaskHour:
    numbers = {row.outcome: row.number for row in rows}
    runs, waits = _added(rows, "run"), _added(rows, "wait")
    return TaskHour(
        succeeded=numbers.get("succeeded", 0),
        failed=numbers.get("failed", 0),
        retried=numbers.get("retried", 0),
        median_run=quantile(runs, 0.5),
        longest_run=quantile(runs, 0.95),
        longest_wait=quantile(waits, 0.95),
        median_wait=quantile(waits, 0.5),
    )


def _added(rows: list[Any], name: str) -> list[int]:
    return [sum(row._mapping[f"{name}_{number}"] for row in rows) for number in range(1, BUCKETS + 1)]


def quantile(histogram: Sequence[int], part: float) -> float | None:
    """Return the upper bound of the bucket that this part of the durations does not exceed.

    ``None`` for no durations, and for the last bucket, which has no bound.
    """
    wanted = sum(histogram) * part
    reached = 0
    if not wanted:
        return None
    for number, bound in zip(histogram, BOUNDS, strict=False):
        reached += number
        if reached >= wanted:
            return bound
    return None
