"""The shop's own tables."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from examples.flask_sqlalchemy_app.application import db


class Customer(db.Model):
    """A customer who has ordered before."""

    email: Mapped[str] = mapped_column(primary_key=True)
    points: Mapped[int] = mapped_column(default=0)


class Order(db.Model):
    """An order of a customer."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    euros: Mapped[int]
    thanks: Mapped[str | None]
