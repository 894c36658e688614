"""Conflicts of a defer on the schema of an older release: each has its answer, or the error that says what to run."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from procrastinate import exceptions
from procrastinate.alembic import upgrades
from procrastinate.app import App
from procrastinate.unique import Unique
from tests.schema.test_rolling_deploy import OLDER

UNIQUE_SINCE, REPLACES_SINCE = "procrastinate_0014", "procrastinate_0020"
"""The revisions that brought the newest column that the defer of a unique job names, and that a replacement empties."""


@pytest.fixture(params=OLDER)
def revision(request: pytest.FixtureRequest, empty_database_url: str) -> str:
    """Apply the schema of an older release, and return its revision."""
    engine = sa.create_engine(empty_database_url)
    with engine.begin() as connection:
        upgrades.upgrade(connection, request.param)
    engine.dispose()
    return str(request.param)


def options_of(kind: str, on_conflict: Any) -> dict[str, Any]:
    if kind == "queueing lock":
        return {"queueing_lock": "q", "on_conflict": on_conflict}
    return {"unique": Unique(by="k", on_conflict=on_conflict)}


def numbers(url: str) -> list[int]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT (args ->> 'number')::int FROM procrastinate_jobs")).scalars().all()
    engine.dispose()
    return list(found)


@pytest.mark.parametrize("kind", ["queueing lock", "unique key"])
def test_a_conflict_has_its_answer_or_an_error_that_says_what_to_run(
    revision: str, empty_database_url: str, kind: str
) -> None:
    """A replacement needs all columns of a job. It leaves the job alone if one is not there yet."""
    with App(connector=empty_database_url).open() as app:

        def defer(number: int, on_conflict: str, *, batch: bool = False) -> Any:
            deferrer = app.configure_task("task", **options_of(kind, on_conflict))
            return deferrer.batch_defer({"number": number}) if batch else deferrer.defer(number=number)

        if kind == "unique key" and revision < UNIQUE_SINCE:
            for on_conflict in ("raise", "skip", "replace"):
                with pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
                    defer(1, on_conflict)
            assert numbers(empty_database_url) == []
            return
        first = defer(1, "raise")
        with pytest.raises(exceptions.AlreadyEnqueued):
            defer(2, "raise")
        assert [defer(2, "skip"), *defer(2, "skip", batch=True)] == [first, first]
        if revision < REPLACES_SINCE:
            for batch in (False, True):
                with pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
                    defer(2, "replace", batch=batch)
            assert numbers(empty_database_url) == [1]
            app.schema_manager.apply_schema()
        assert defer(2, "replace") == first
        assert numbers(empty_database_url) == [2]
        assert defer(3, "replace", batch=True) == [first]
        assert numbers(empty_database_url) == [3]
