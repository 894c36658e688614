"""Tasks declared while Django is not ready, as in any project."""

from __future__ import annotations

import os
import signal

from django.db import connection

from procrastinate.contrib.django import app
from procrastinate.job_context import JobContext
from tests.django.shop.models import Order


@app.task
def ship(order_id: int) -> None:
    """Change a row of the project."""
    Order.objects.filter(pk=order_id).update(product="shipped")


@app.task(name="shop.ship_async", queue="async")
async def ship_async(order_id: int) -> None:
    """Change a row of the project, with the asynchronous ORM."""
    await Order.objects.filter(pk=order_id).aupdate(product="shipped")


@app.task(name="shop.fail")
def fail() -> None:
    """Fail."""
    raise ValueError("on purpose")


@app.task(name="shop.sign_in", aliases=["shop.log_in"], log_arguments=False)
def sign_in(name: str) -> None:
    """Take arguments that logs and pages do not show."""


@app.periodic(cron="0 0 1 1 *")
@app.task(name="shop.new_year")
def new_year(timestamp: int) -> None:
    """Run once a year."""


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="shop.die_at_commit", pass_context=True)
def die_at_commit(context: JobContext, moment: str) -> None:
    """The first time, kill the process: when COMMIT is about to be sent, or when it has been answered."""
    first = context.job.attempts == 0
    with context.transaction():
        Order.objects.create(product="once")
        ship.configure(queue="later").defer(order_id=1)
        if first and moment == "before":
            connection._commit = _die
    if first:
        _die()
