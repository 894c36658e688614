"""The box office on SQLModel and FastAPI: a real client, a real server, a real worker; and its own tests."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from tests.database import driver_url
from tests.examples.programs import Programs

WORKER = ("procrastinate", "--app", "examples.sqlmodel_app.tasks.queue", "worker", "--one-shot")
PYTEST = ("pytest", "-q", "-p", "no:cacheprovider", "examples/sqlmodel_app")


def column(database_url: str, statement: str) -> list[Any]:
    """What a statement selects."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement)).scalars())


def statuses(database_url: str) -> list[str]:
    """Of all jobs."""
    return column(database_url, "SELECT status::text FROM procrastinate_jobs ORDER BY id")


@pytest.mark.parametrize(("web", "driver"), [("web", "asyncpg"), ("web", "psycopg"), ("sync_web", "psycopg")])
def test_a_booking_and_its_job_are_one_transaction_and_so_are_the_seat_and_the_end_of_the_job(
    empty_database_url: str, web: str, driver: str
) -> None:
    """What is sold out leaves nothing; what is cancelled cancels its job; the worker assigns the seats."""
    programs = Programs(driver_url(empty_database_url, driver))
    programs.run("examples.sqlmodel_app.create_tables")
    with (
        programs.serve("uvicorn", f"examples.sqlmodel_app.{web}:app", "--port", "0") as address,
        httpx.Client(base_url=address) as client,
    ):
        for number in (1, 2, 3):
            accepted = client.post("/bookings", json={"concert_id": 1, "email": f"{number}@example.com"})
            assert (accepted.status_code, accepted.json()["seat"]) == (201, None)

        sold_out = client.post("/bookings", json={"concert_id": 1, "email": "late@example.com"})
        assert sold_out.status_code == 409

        assert client.delete("/bookings/2").status_code == 204
        assert statuses(empty_database_url) == ["todo", "cancelled", "todo"]

        programs.run(*WORKER)

        assert client.delete("/bookings/1").status_code == 409
        seats = [(booking["email"], booking["seat"]) for booking in client.get("/bookings").json()]
        assert seats == [("1@example.com", 1), ("3@example.com", 2)]
        assert statuses(empty_database_url) == ["succeeded", "cancelled", "succeeded"]


def test_the_tests_of_the_example_pass_and_leave_nothing(empty_database_url: str) -> None:
    """As they are shown to users."""
    assert "6 passed" in Programs(driver_url(empty_database_url, "asyncpg")).run(*PYTEST)
    for table in ("concert", "booking", "procrastinate_jobs"):
        assert column(empty_database_url, f"SELECT count(*) FROM {table}") == [0]  # noqa: S608
