"""Tests of the box office's bookings and jobs."""

from __future__ import annotations

import httpx
import pytest
import pytest_asyncio
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from examples.sqlmodel_app import tasks
from examples.sqlmodel_app.database import Booking, Concert
from procrastinate.testing import Jobs

ANN = {"concert_id": 1, "email": "ann@example.com"}
pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture(autouse=True)
async def concert(connection: AsyncConnection) -> None:
    """A concert with two seats."""
    await connection.execute(sa.insert(Concert).values(id=1, seats=2, sold=0))


async def test_a_booking_defers_the_assignment_of_its_seat(client: httpx.AsyncClient, procrastinate_jobs: Jobs) -> None:
    booking = (await client.post("/bookings", json=ANN)).json()
    job = await procrastinate_jobs.assert_deferred_async(tasks.assign_seat, booking_id=booking["id"])
    assert job.id == booking["job_id"]


async def test_seats_are_assigned_in_the_order_of_the_bookings(
    client: httpx.AsyncClient, procrastinate_jobs: Jobs
) -> None:
    for _ in range(2):
        await client.post("/bookings", json=ANN)
    await procrastinate_jobs.run_async()
    assert [booking["seat"] for booking in (await client.get("/bookings")).json()] == [1, 2]


async def test_what_is_sold_out_leaves_nothing(
    client: httpx.AsyncClient, procrastinate_jobs: Jobs, connection: AsyncConnection
) -> None:
    statuses = [(await client.post("/bookings", json=ANN)).status_code for _ in range(3)]
    assert statuses == [201, 201, 409]
    assert len(await procrastinate_jobs.deferred_async()) == 2
    assert len((await connection.execute(sa.select(Booking.id))).all()) == 2


async def test_a_booking_is_cancelled_with_its_job(client: httpx.AsyncClient, procrastinate_jobs: Jobs) -> None:
    booking = (await client.post("/bookings", json=ANN)).json()
    assert (await client.delete(f"/bookings/{booking['id']}")).status_code == 204
    await procrastinate_jobs.assert_deferred_async(tasks.assign_seat, {"status": "cancelled"})
    assert await procrastinate_jobs.run_async() == []


async def test_a_booking_that_has_its_seat_stays(client: httpx.AsyncClient, procrastinate_jobs: Jobs) -> None:
    booking = (await client.post("/bookings", json=ANN)).json()
    await procrastinate_jobs.run_async()
    assert (await client.delete(f"/bookings/{booking['id']}")).status_code == 409
    assert [left["seat"] for left in (await client.get("/bookings")).json()] == [1]


async def test_an_assignment_that_fails_is_rolled_back_and_tried_again(
    procrastinate_jobs: Jobs, connection: AsyncConnection
) -> None:
    await tasks.assign_seat.defer_async(booking_id=7)  # which is not there yet
    (record,) = await procrastinate_jobs.run_async()
    assert record.is_retried

    await connection.execute(sa.insert(Booking).values(id=7, **ANN))
    await procrastinate_jobs.run_async(until="empty")
    assert (await connection.execute(sa.select(Booking.seat))).scalar_one() == 1
