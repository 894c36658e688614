"""Tests of the shop's orders and jobs."""

from __future__ import annotations

import flask.testing
import pytest
import sqlalchemy as sa

from examples.flask_sqlalchemy_app import tasks
from examples.flask_sqlalchemy_app.models import Customer, Order
from procrastinate.testing import Jobs, RunAtDefer

ANN = {"email": "ann@example.com", "euros": "20"}


@pytest.fixture
def order_id(connection: sa.Connection) -> int:
    """An order that no job has processed."""
    connection.execute(sa.insert(Customer).values(email="ann@example.com", points=5))
    return connection.execute(
        sa.insert(Order).values(email="ann@example.com", euros=20).returning(Order.id)
    ).scalar_one()


def points(connection: sa.Connection) -> list[int]:
    """Of the customers."""
    return list(connection.execute(sa.select(Customer.points).order_by(Customer.email)).scalars())


def test_an_order_defers_the_award_of_its_points(client: flask.testing.FlaskClient, procrastinate_jobs: Jobs) -> None:
    assert client.post("/orders", data=ANN).status_code == 303
    procrastinate_jobs.assert_deferred(tasks.award_points, {"status": "todo"})


def test_a_declined_order_leaves_nothing(
    client: flask.testing.FlaskClient, procrastinate_jobs: Jobs, connection: sa.Connection
) -> None:
    assert client.post("/orders", data=ANN | {"euros": "2000"}).status_code == 402
    procrastinate_jobs.assert_not_deferred()
    assert points(connection) == []


def test_points_are_awarded_and_the_customer_is_thanked(
    client: flask.testing.FlaskClient, procrastinate_jobs: Jobs, connection: sa.Connection
) -> None:
    for _ in range(2):
        client.post("/orders", data=ANN)
    assert len(procrastinate_jobs.run()) == 4
    assert points(connection) == [40]
    assert client.get("/").text.count("Thank you, ann@example.com") == 2


def test_an_award_that_fails_is_rolled_back_and_tried_again(
    order_id: int, procrastinate_jobs: Jobs, connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.award_points.defer(order_id=order_id)
    with monkeypatch.context() as broken:
        broken.delattr(tasks, "send_thanks")
        (record,) = procrastinate_jobs.run()
    assert record.is_retried
    assert points(connection) == [5]

    procrastinate_jobs.run(until="empty")
    assert points(connection) == [25]


def test_in_immediate_mode_an_order_leaves_nothing_to_do(
    client: flask.testing.FlaskClient, procrastinate_run_at_defer: RunAtDefer, connection: sa.Connection
) -> None:
    client.post("/orders", data=ANN)
    assert points(connection) == [20]
    assert "Thank you, ann@example.com" in client.get("/").text
