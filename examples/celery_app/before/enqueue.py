"""Fills the broker: ``python -m examples.celery_app.before.enqueue``."""

from __future__ import annotations

import datetime

from celery import chain

from examples.celery_app.before.project import app
from examples.celery_app.before.tasks import charge, report, ship

LATER = datetime.datetime(2040, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)


def main() -> None:
    """Send a message of each kind."""
    app.set_current()
    charge.delay(1, amount=10)
    charge.apply_async((2,), {"amount": 20}, eta=LATER, priority=3)
    ship.delay(3)
    report.apply_async(("late",), expires=datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
    chain(report.si("first"), report.si("second")).delay()
    print("5 messages are sent")


if __name__ == "__main__":
    main()
