"""What the page on reliability takes for granted: an app and a table."""

import os

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import procrastinate

engine = sa.create_engine(os.environ["DATABASE_URL"])
new_session = sessionmaker(engine)
app = procrastinate.App(connector=engine)
app.open()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]


Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    session.add(Order(id=1, state="new"))


def at_the_end() -> None:
    """The task runs, and has had its effect."""
    globals()["charge"].defer(order_id=1)
    app.run_worker(wait=False)
    with Session(engine) as session:
        assert session.get_one(Order, 1).state == "paid"
