"""The queue and its task."""

from __future__ import annotations

from sqlalchemy.orm import Session

import procrastinate
from examples.flask_app.database import Order, engine

queue = procrastinate.App(connector=engine)


@queue.task(retry=procrastinate.RetryStrategy(max_attempts=5, exponential_wait=2))
def send_receipt(order_id: int) -> None:
    """Send an order's receipt."""
    with Session(engine) as session, session.begin():
        order = session.get_one(Order, order_id)
        order.receipt = f"{order.euros} € paid by {order.email}"
