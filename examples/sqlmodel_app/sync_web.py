"""The same endpoints with the synchronous ``Session`` and psycopg."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Annotated

import fastapi
import sqlalchemy as sa
from sqlmodel import Session, create_engine, func, select

from examples.sqlmodel_app.database import Booking, Concert, NewBooking
from examples.sqlmodel_app.tasks import assign_seat, queue
from procrastinate.contrib.fastapi import lifespan

app = fastapi.FastAPI(lifespan=lifespan(queue))
engine = create_engine(sa.make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))


def get_session() -> Iterator[Session]:
    """Yield the request's session. Uncommitted work is rolled back."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


RequestSession = Annotated[Session, fastapi.Depends(get_session)]


@app.get("/bookings")
def bookings(session: RequestSession) -> Sequence[Booking]:
    """List the bookings."""
    return session.exec(select(Booking).order_by(Booking.id)).all()


@app.post("/bookings", status_code=201)
def book(new: NewBooking, session: RequestSession) -> Booking:
    """Take a booking. The job that assigns a seat is part of the same transaction."""
    booking = Booking.model_validate(new)
    session.add(booking)
    session.flush()
    booking.job_id = assign_seat.configure(connection=session).defer(booking_id=booking.id)
    require_seats(session, new.concert_id)
    session.commit()
    return booking


def require_seats(session: Session, concert_id: int) -> None:
    """End the request without a booking and a job if no seat is left."""
    concert = session.get_one(Concert, concert_id, with_for_update=True)
    booked = session.exec(select(func.count()).where(Booking.concert_id == concert_id))
    if booked.one() > concert.seats:
        raise fastapi.HTTPException(409, "Sold out")


@app.delete("/bookings/{booking_id}", status_code=204)
def cancel(booking_id: int, session: RequestSession) -> None:
    """Cancel a booking and its job, unless it has a seat."""
    booking = session.get(Booking, booking_id)
    if booking is None:
        raise fastapi.HTTPException(404, "There is no such booking")
    session.delete(booking)
    session.flush()
    if not queue.job_manager.cancel_job_by_id(booking.job_id, connection=session):
        raise fastapi.HTTPException(409, "The seat is assigned already")
    session.commit()
