"""The engine, the request's session and the box office's own tables."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import Field, SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

engine = create_async_engine(os.environ["DATABASE_URL"])
new_session = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    """Yield the request's session. Uncommitted work is rolled back."""
    async with new_session() as session:
        yield session


RequestSession = Annotated[AsyncSession, Depends(get_session)]


class Concert(SQLModel, table=True):
    """A concert with a number of seats."""

    id: int = Field(primary_key=True)
    seats: int
    sold: int = 0


class NewBooking(SQLModel):
    """The fields of a booking request."""

    concert_id: int = Field(foreign_key="concert.id")
    email: str


class Booking(NewBooking, table=True):
    """A booking, with a seat once its job has run."""

    id: int | None = Field(default=None, primary_key=True)
    job_id: int | None = None
    seat: int | None = None
