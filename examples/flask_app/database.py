"""The engine, the request's session and the shop's own table."""

from __future__ import annotations

import os

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

engine = sa.create_engine(os.environ["DATABASE_URL"])
session = scoped_session(sessionmaker(engine))


class Base(DeclarativeBase):
    """The base class of the shop's tables."""


class Order(Base):
    """An order of a customer."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    euros: Mapped[int]
    receipt: Mapped[str | None]
