"""The queue and its task."""

from __future__ import annotations

import procrastinate
from examples.fastapi_app.database import Order, engine, new_session

queue = procrastinate.App(connector=engine)


@queue.task(retry=procrastinate.RetryStrategy(max_attempts=5, exponential_wait=2))
async def send_receipt(order_id: int) -> None:
    """Send an order's receipt."""
    async with new_session.begin() as session:
        order = await session.get_one(Order, order_id)
        order.receipt = f"{order.euros} € paid by {order.email}"
