"""Sets up what the page on tasks assumes: an app, a table, and two tasks that it mentions."""

import os

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import procrastinate
from procrastinate.exceptions import TaskTimeout  # noqa: F401  (in the text)
from procrastinate.testing import WorkerThread

engine = sa.create_engine(os.environ["DATABASE_URL"])
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

page = "front"


@app.task
def send_receipt(order_id: int) -> None: ...


@app.task
def index(page: str) -> None: ...


# The page waits for results, so a worker must run.
worker = WorkerThread(app)
worker.start()


def at_the_end() -> None:
    """Check that the page's tasks can be deferred and run."""
    names = globals()
    names["charge"].defer(order_id=1)
    names["call_partner"].defer(order_id=1)
    names["fetch_rates"].defer()
    names["take_stock"].defer(shelf="A")
    names["send_invoice"].defer(customer_id=1, month="May")
    names["render"].defer(page="front", user="ann")
    names["report"].defer(timestamp=0)
    worker.wait_until_done()
    worker.stop()
    with Session(engine) as session:
        assert session.get_one(Order, 1).state == "paid"
    (invoice,) = app.job_manager.list_jobs(task="myapp.send_invoice")
    assert invoice.lock == "customer-1"
    (delayed,) = app.job_manager.list_jobs(task="myapp.index")
    assert delayed.queueing_lock == "index-front"
    assert delayed.status == "todo"
