"""The shop on Flask-SQLAlchemy: a real client, a real server, a real worker; and its own tests."""

from __future__ import annotations

import httpx
import pytest
import sqlalchemy as sa

from tests.database import driver_url
from tests.examples.programs import Programs

FLASK = ("flask", "--app", "examples.flask_sqlalchemy_app.web")
QUEUE = "examples.flask_sqlalchemy_app.application.queue"
WORKER = ("procrastinate", "--app", QUEUE, "worker", "--one-shot")
JOBS = ("procrastinate", "--app", QUEUE, "shell", "list_jobs", "details")
ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_an_order_and_its_job_are_one_transaction_and_so_are_the_points_and_the_end_of_the_job(
    empty_database_url: str, driver: str
) -> None:
    """The worker awards the points, and what it defers with them, too."""
    programs = Programs(driver_url(empty_database_url, driver))
    programs.run(*FLASK, "create-tables")
    with programs.serve(*FLASK, "run", "--port", "0") as address, httpx.Client(base_url=address) as client:
        accepted = client.post("/orders", data={"email": ANN, "euros": "20"})
        assert (accepted.status_code, accepted.headers["location"]) == (303, "/")

        declined = client.post("/orders", data={"email": BOB, "euros": "2000"})
        assert declined.status_code == 402

        page = client.get("/").text
        assert "0 points" in page
        assert BOB not in page
        assert programs.run(*JOBS).count("[todo]") == 1

        programs.run(*WORKER)

        page = client.get("/").text
        assert "20 points" in page
        assert f"Thank you, {ANN}" in page
        assert programs.run(*JOBS).count("[succeeded]") == 2


def test_the_tests_of_the_example_pass_and_leave_nothing(empty_database_url: str) -> None:
    """As they are shown to users."""
    printed = Programs(empty_database_url).run(
        "pytest", "-q", "-p", "no:cacheprovider", "examples/flask_sqlalchemy_app"
    )
    assert "5 passed" in printed
    engine = sa.create_engine(empty_database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        for table in ("orders", "customer", "procrastinate_jobs"):
            assert connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() == 0  # noqa: S608
