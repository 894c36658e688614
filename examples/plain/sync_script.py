"""Defer jobs from synchronous code."""

from __future__ import annotations

import os

import sqlalchemy as sa

from examples.plain.tasks import add, app, greet


def main() -> None:
    """Defer some jobs. One is rolled back with its transaction."""
    with app.open():
        add.defer(a=1, b=2)
        greet.configure(schedule_in={"seconds": 1}).defer(name="later")
        add.batch_defer({"a": 3, "b": 4}, {"a": 5, "b": 6})
        in_a_transaction()
        print(f"{len(app.job_manager.list_jobs())} jobs are waiting or done")


def in_a_transaction() -> None:
    """Defer a job inside the transaction of a connection."""
    engine = sa.create_engine(os.environ["DATABASE_URL"])
    with engine.connect() as connection:
        with connection.begin():
            greet.configure(connection=connection).defer(name="commit")
        with connection.begin() as transaction:
            greet.configure(connection=connection).defer(name="rollback")
            transaction.rollback()
    engine.dispose()


if __name__ == "__main__":
    main()
