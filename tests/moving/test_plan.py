"""``schema --plan`` says what ``schema --apply`` then does, in this order, and nothing that is done already."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

import procrastinate
from procrastinate.alembic import revisions, upgrades
from procrastinate.alembic.build_ahead import RENAMED
from tests.moving.rows import execute
from tests.moving.test_adoption import STEPS, execute_step
from tests.moving.test_django import manage, shop_template, shop_url  # noqa: F401

LINE = re.compile(r"^ *\d+\. (.*)$", re.MULTILINE)
SWITCH = next(number for number, step in enumerate(STEPS, start=1) if step.what.startswith("replace triggers"))


def planned(url: str) -> str:
    """What the plan says."""
    app = procrastinate.App(connector=url)
    with app.open():
        return app.schema_manager.plan()


def applied(url: str) -> tuple[list[str], list[str]]:
    """Apply the schema. Return what it reports to do, and the statements that the server got."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    statements: list[str] = []
    report: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        statements.append(f"{statement} {parameters or ''}")

    app = procrastinate.App(connector=engine)
    with app.open():
        app.schema_manager.apply_schema(report=report.append)
    engine.dispose()
    heads = [re.sub(r"^\d+/\d+ | \(locks: .*", "", line) for line in report if not line.startswith(" ")]
    return heads, statements


def run_steps(url: str, *, number: int) -> None:
    """Upgrade tables by some of the steps, as a process does that is killed then."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for step in STEPS[:number]:
            for statement in step.statements:
                while execute_step(connection, statement) > 0 and step.until_done:
                    pass


def run_until(url: str, text: str) -> None:
    """Apply the schema until a statement with this text comes, which is the first that is not executed."""

    class KilledError(Exception):
        pass

    engine = sa.create_engine(url, poolclass=sa.NullPool)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def kill(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if text in statement:
            raise KilledError

    app = procrastinate.App(connector=engine)
    with app.open(), contextlib.suppress(KilledError):
        app.schema_manager.apply_schema()


def unchanged(url: str) -> None:
    """Leave the database as it is."""


STATES: dict[str, tuple[str, Callable[[str], object]]] = {
    "plain": ("filled_url", unchanged),
    "Django": ("shop_url", unchanged),
    **{
        f"killed after step {number}": ("filled_url", lambda url, number=number: run_steps(url, number=number))
        for number in (1, 3, 5, 8, SWITCH - 1, SWITCH, SWITCH + 1, len(STEPS))
    },
    "killed before an index of a revision": ("filled_url", lambda url: run_until(url, "procrastinate_jobs_slots_idx")),
    "killed between revisions": ("filled_url", lambda url: run_until(url, "procrastinate_hold_offs")),
    "an index is broken": (
        "filled_url",
        lambda url: (
            run_steps(url, number=8),
            execute(
                url,
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'procrastinate_jobs_ready_idx'::regclass",
            ),
        ),
    ),
    "back at 3.x": (
        "filled_url",
        lambda url: (planned(url), applied(url), revert(url)),
    ),
    "adopted, an index was built twice": (
        "filled_url",
        lambda url: (applied(url), execute(url, f"CREATE INDEX {next(iter(RENAMED))} ON procrastinate_jobs (id)")),
    ),
}


def revert(url: str) -> None:
    """Go back to 3.x."""
    app = procrastinate.App(connector=url)
    with app.open():
        app.schema_manager.revert_to_3x()


@pytest.mark.parametrize("state", STATES)
def test_the_plan_is_what_is_done(request: pytest.FixtureRequest, state: str) -> None:
    fixture, prepare = STATES[state]
    url = request.getfixturevalue(fixture)
    prepare(url)
    plan = LINE.findall(planned(url))
    report, statements = applied(url)
    of_revisions = [line for line in plan if line.startswith("apply the revisions")]
    assert [line for line in plan if line not in of_revisions] == report
    assert built(statements) == re.findall(r"build the index (\w+)", "\n".join(plan))
    named = [name for line in of_revisions for name in named_in(line)]
    assert written(statements)[-len(named) :] == named if named else written(statements) == []
    assert planned(url) == "The schema is up to date"


def named_in(line: str) -> list[str]:
    """The revisions that a line of a plan names, or that lie between the two that it names."""
    named, known = re.findall(r"procrastinate_\d{4}", line), list(revisions.known_revisions())
    is_range = re.search(r"\d to procrastinate_", line) is not None
    return known[known.index(named[0]) : known.index(named[1]) + 1] if is_range else named


def built(statements: list[str]) -> list[str]:
    """The indexes that were built concurrently."""
    return [name for text in statements for name in re.findall(r"CONCURRENTLY IF NOT EXISTS (\w+)", text)]


def written(statements: list[str]) -> list[str]:
    """The revisions that were written down, those of the migrations alone."""
    return re.findall(r"UPDATE procrastinate_alembic_version SET version_num='(\w+)'", "\n".join(statements))


def test_the_plan_of_an_empty_database_says_that_nothing_waits(empty_database_url: str) -> None:
    known = revisions.known_revisions()
    assert planned(empty_database_url) == (
        f"  1. apply the revisions {known[0]} to {known[-1]}\n"
        "     locks: none that blocks readers or writers: the tables are new"
    )
    report, statements = applied(empty_database_url)
    assert (report, built(statements)) == ([], [])
    assert planned(empty_database_url) == "The schema is up to date"


@pytest.mark.parametrize(
    ("before", "locks"),
    [
        ("procrastinate_0013", "ACCESS EXCLUSIVE on procrastinate_jobs and procrastinate_workers"),
        ("procrastinate_0020", "none"),
    ],
)
def test_the_plan_says_what_later_revisions_lock(engine: sa.Engine, database_url: str, before: str, locks: str) -> None:
    with engine.begin() as connection:
        upgrades.downgrade(connection, before)
        connection.exec_driver_sql("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('q', 't')")
    plan = planned(database_url)
    report, statements = applied(database_url)
    assert [*report] == LINE.findall(plan)[: len(report)]
    assert f"locks: {locks}" in plan.splitlines()[-1]
    assert any("LOCK TABLE" in statement for statement in statements) == (locks != "none")


def test_the_plan_counts_jobs_that_were_left_behind_when_half_is_upgraded(filled_url: str) -> None:
    run_steps(filled_url, number=SWITCH)
    assert "2 of sleeps, the oldest since" in planned(filled_url)


def test_the_plan_counts_the_rows_of_tables_that_were_never_analysed(filled_url: str) -> None:
    ((jobs,),) = execute(filled_url, "SELECT count(*) FROM procrastinate_jobs")
    assert f"About {jobs} jobs" in planned(filled_url)


@pytest.mark.timeout(300)
def test_the_command_of_django_prints_the_same_plan(shop_url: str) -> None:  # noqa: F811
    def without_lines_of_logs(text: str) -> list[str]:
        return [line for line in text.splitlines() if re.match(r" *\d+\. | +locks: ", line)]

    said = manage(shop_url, "procrastinate", "schema", "--plan")
    assert without_lines_of_logs(said) == without_lines_of_logs(planned(shop_url))
    assert without_lines_of_logs(said) != []
