"""The endpoints."""

from __future__ import annotations

from collections.abc import Sequence

import fastapi
from sqlmodel import func, select

from examples.sqlmodel_app.database import Booking, Concert, NewBooking, RequestSession
from examples.sqlmodel_app.tasks import assign_seat, queue
from procrastinate.contrib.fastapi import lifespan

app = fastapi.FastAPI(lifespan=lifespan(queue))


@app.get("/bookings")
async def bookings(session: RequestSession) -> Sequence[Booking]:
    """List the bookings."""
    return (await session.exec(select(Booking).order_by(Booking.id))).all()


@app.post("/bookings", status_code=201)
async def book(new: NewBooking, session: RequestSession) -> Booking:
    """Take a booking. The job that assigns a seat is part of the same transaction."""
    booking = Booking.model_validate(new)
    session.add(booking)
    await session.flush()
    booking.job_id = await assign_seat.configure(connection=session).defer_async(booking_id=booking.id)
    await require_seats(session, new.concert_id)
    await session.commit()  # commit here, because code after a dependency's `yield` may run after the response
    return booking


async def require_seats(session: RequestSession, concert_id: int) -> None:
    """End the request without a booking and a job if no seat is left."""
    concert = await session.get_one(Concert, concert_id, with_for_update=True)
    booked = await session.exec(select(func.count()).where(Booking.concert_id == concert_id))
    if booked.one() > concert.seats:
        raise fastapi.HTTPException(409, "Sold out")


@app.delete("/bookings/{booking_id}", status_code=204)
async def cancel(booking_id: int, session: RequestSession) -> None:
    """Cancel a booking and its job, unless it has a seat."""
    booking = await session.get(Booking, booking_id)
    if booking is None:
        raise fastapi.HTTPException(404, "There is no such booking")
    await session.delete(booking)
    await session.flush()
    if not await queue.job_manager.cancel_job_by_id_async(booking.job_id, connection=session):
        raise fastapi.HTTPException(409, "The seat is assigned already")
    await session.commit()
