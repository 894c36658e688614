"""The endpoints."""

from __future__ import annotations

from typing import Annotated

import fastapi
import pydantic
import sqlalchemy as sa

import procrastinate
from examples.fastapi_app.database import Order, new_session
from examples.fastapi_app.tasks import queue, send_receipt
from procrastinate.contrib.fastapi import get_app, lifespan

CREDIT = 1000
"""Euros. The shop declines the payment of a larger order."""

app = fastapi.FastAPI(lifespan=lifespan(queue))


class NewOrder(pydantic.BaseModel):
    """The fields of an order request."""

    email: str
    euros: int


class OrderOut(NewOrder):
    """The fields of an order in a response."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    id: int
    receipt: str | None


@app.get("/orders")
async def orders() -> list[OrderOut]:
    """List the orders."""
    async with new_session() as session:
        found = await session.scalars(sa.select(Order).order_by(Order.id))
        return [OrderOut.model_validate(order) for order in found]


@app.post("/orders", status_code=201)
async def place_order(new_order: NewOrder) -> OrderOut:
    """Take an order. The job that sends the receipt is part of the same transaction."""
    async with new_session.begin() as session:
        order = Order(**new_order.model_dump())
        session.add(order)
        await session.flush()
        await send_receipt.configure(connection=session).defer_async(order_id=order.id)
        charge(order)
    return OrderOut.model_validate(order)


def charge(order: Order) -> None:
    """Take the payment. If it is declined, the transaction ends without an order and without a job."""
    if order.euros > CREDIT:
        raise fastapi.HTTPException(402, "Payment declined")


@app.get("/queues")
async def queues(app: Annotated[procrastinate.App, fastapi.Depends(get_app)]) -> list[dict[str, object]]:
    """Count the jobs."""
    return await app.job_manager.list_queues_async()
