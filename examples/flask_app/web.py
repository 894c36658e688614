"""The views."""

from __future__ import annotations

import flask
import sqlalchemy as sa
from werkzeug.wrappers import Response

from examples.flask_app.database import Base, Order, engine, session
from examples.flask_app.tasks import queue, send_receipt
from procrastinate.contrib.flask import init_app

CREDIT = 1000
"""Euros. The shop declines the payment of a larger order."""

app = flask.Flask(__name__)
init_app(app, queue)


@app.teardown_request
def end_transaction(error: BaseException | None) -> None:
    """Close the session, which rolls back uncommitted work."""
    session.remove()


@app.cli.command("create-tables")
def create_tables() -> None:
    """Create the shop's tables and the queue's."""
    Base.metadata.create_all(engine)
    queue.schema_manager.apply_schema()


@app.get("/")
def orders() -> str:
    """Show the orders and a form for another order."""
    return flask.render_template("orders.html", orders=session.scalars(sa.select(Order).order_by(Order.id)))


@app.post("/orders")
def place_order() -> Response:
    """Take an order. The job that sends the receipt is part of the same transaction."""
    order = Order(email=flask.request.form["email"], euros=int(flask.request.form["euros"]))
    session.add(order)
    session.flush()
    send_receipt.configure(connection=session).defer(order_id=order.id)
    charge(order)
    session.commit()
    return flask.redirect(flask.url_for("orders"), code=303)


def charge(order: Order) -> None:
    """Take the payment. If it is declined, the request ends without an order and without a job."""
    if order.euros > CREDIT:
        flask.abort(flask.Response("Payment declined", 402))
