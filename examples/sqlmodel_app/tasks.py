"""The queue and its task."""

from __future__ import annotations

import procrastinate
from examples.sqlmodel_app.database import Booking, Concert, engine, new_session

queue = procrastinate.App(connector=engine)


@queue.task(retry=procrastinate.RetryStrategy(max_attempts=5, exponential_wait=2), pass_context=True)
async def assign_seat(context: procrastinate.JobContext, booking_id: int) -> None:
    """Give a booking the next seat, exactly once even if the worker dies."""
    async with context.transaction(new_session) as session:
        booking = await session.get_one(Booking, booking_id)
        concert = await session.get_one(Concert, booking.concert_id, with_for_update=True)
        concert.sold += 1
        booking.seat = concert.sold
