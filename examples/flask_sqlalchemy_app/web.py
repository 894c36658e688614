"""The views."""

from __future__ import annotations

import flask
import sqlalchemy as sa
from werkzeug.wrappers import Response

from examples.flask_sqlalchemy_app.application import app, db, queue
from examples.flask_sqlalchemy_app.models import Customer, Order
from examples.flask_sqlalchemy_app.tasks import award_points

CREDIT = 1000
"""Euros. The shop declines the payment of a larger order."""


@app.cli.command("create-tables")
def create_tables() -> None:
    """Create the shop's tables and the queue's."""
    db.create_all()
    queue.schema_manager.apply_schema()


@app.get("/")
def orders() -> str:
    """Show the orders, the customers and a form for another order."""
    return flask.render_template(
        "orders.html",
        orders=db.session.scalars(sa.select(Order).order_by(Order.id)),
        customers=db.session.scalars(sa.select(Customer).order_by(Customer.email)),
    )


@app.post("/orders")
def place_order() -> Response:
    """Take an order. The job that awards its points is part of the same transaction."""
    order = Order(email=flask.request.form["email"], euros=int(flask.request.form["euros"]))
    db.session.add(order)
    if db.session.get(Customer, order.email) is None:
        db.session.add(Customer(email=order.email))
    db.session.flush()
    award_points.configure(connection=db.session).defer(order_id=order.id)
    charge(order)
    db.session.commit()
    return flask.redirect(flask.url_for("orders"), code=303)


def charge(order: Order) -> None:
    """Take the payment. If it is declined, Flask-SQLAlchemy rolls back the order, the customer and the job."""
    if order.euros > CREDIT:
        flask.abort(flask.Response("Payment declined", 402))
