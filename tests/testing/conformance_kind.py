"""Adapts the in-memory connector to the conformance suite."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import sqlalchemy as sa

from procrastinate.testing import InMemoryConnector
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.tables import Tables
from tests.conformance import steps

P = ParamSpec("P")
R = TypeVar("R")

STEPS = Implementations()
"""The suite's direct steps on a table, in addition to the operations."""


@STEPS.of(steps.read_column)
def read_column(tables: Tables, job_id: int, name: str) -> Any:
    row = cast(dict[str, Any], tables.jobs[job_id])
    return row[name] if name in row else getattr(tables.progress(job_id), name)


@STEPS.of(steps.write_columns)
def write_columns(tables: Tables, job_id: int, values: dict[str, Any]) -> None:
    status = values.get("status")
    tables.update({job_id: values if status is None else {**values, "status": status.value}})


@STEPS.of(steps.set_heartbeat)
def set_heartbeat(tables: Tables, worker_id: int, heartbeat: datetime.datetime) -> None:
    tables.workers[worker_id] = heartbeat


@STEPS.of(steps.count_details)
def count_details(tables: Tables) -> tuple[int, int]:
    return len(tables.results), sum(map(len, tables.errors.values()))


@STEPS.of(steps.list_workers)
def list_workers(tables: Tables) -> list[int]:
    return list(tables.workers)


@STEPS.of(steps.list_history)
def list_history(tables: Tables, job_id: int) -> list[str]:
    return [event["type"] for event in tables.events.get(job_id, [])]


@STEPS.of(steps.age_history)
def age_history(tables: Tables, job_id: int, age: datetime.timedelta) -> None:
    for event in tables.events[job_id]:
        event["at"] -= age


@STEPS.of(steps.list_tick_jobs)
def list_tick_jobs(tables: Tables) -> list[int | None]:
    return list(tables.tick_jobs.values())


@STEPS.of(steps.age_windows)
def age_windows(tables: Tables, seconds: float) -> None:
    ago = datetime.timedelta(seconds=seconds)
    tables.starts = [dataclasses.replace(start, at=start.at - ago) for start in tables.starts]
    tables.hold_offs = {place: until - ago for place, until in tables.hold_offs.items()}


class InMemoryRun:
    """Runs operations with an :class:`InMemoryConnector`, and the steps of the suite on its tables."""

    def __init__(self) -> None:
        self.connector = InMemoryConnector()

    def __call__(self, operation: Callable[Concatenate[sa.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        if operation in STEPS:
            tables = self.connector._tables
            tables.now = self.connector.clock()
            result: R = STEPS[operation](tables, *args, **kwargs)
            return result
        return self.connector.run(operation, *args, **kwargs)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Do nothing, because the connector has no transactions."""
        yield


@contextlib.contextmanager
def opened() -> Iterator[InMemoryRun]:
    """Yield a runner with empty tables."""
    yield InMemoryRun()
