"""The queue's tasks."""

from __future__ import annotations

import procrastinate
from examples.flask_sqlalchemy_app.application import db, queue
from examples.flask_sqlalchemy_app.models import Customer, Order


@queue.task(retry=procrastinate.RetryStrategy(max_attempts=5, exponential_wait=2), pass_context=True)
def award_points(context: procrastinate.JobContext, order_id: int) -> None:
    """Award an order's points, exactly once even if the worker dies."""
    with context.transaction(db.session) as session:
        order = session.get_one(Order, order_id)
        customer = session.get_one(Customer, order.email, with_for_update=True)
        customer.points += order.euros
        send_thanks.configure(connection=session).defer(order_id=order.id)


@queue.task(retry=3)
def send_thanks(order_id: int) -> None:
    """Thank the customer for an order."""
    order = db.session.get_one(Order, order_id)
    order.thanks = f"Thank you, {order.email}"
    db.session.commit()
