"""Tasks declared while Django is not ready, as in any project."""

from __future__ import annotations

from procrastinate.contrib.django import app
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


@app.periodic(cron="0 0 1 1 *")
@app.task(name="shop.new_year")
def new_year(timestamp: int) -> None:
    """Run once a year."""
