"""The endpoints."""

from __future__ import annotations

from typing import Annotated

import fastapi
import pydantic
import sqlalchemy as sa

import procrastinate
from examples.fastapi_app.database import Order, new_session
from examples.fastapi_app.tasks import queue, send_receipt
from procrastinate.adapters.standalone.fastapi import get_app, lifespan

CREDIT = 1000
"""Euros: whoever wants more has to pay at once, and cannot."""

app = fastapi.FastAPI(lifespan=lifespan(queue))


class NewOrder(pydantic.BaseModel):
    """What a customer wants."""

    email: str
    euros: int


class OrderOut(NewOrder):
    """What the shop says of an order."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    id: int
    receipt: str | None


@app.get("/orders")
async def orders() -> list[OrderOut]:
    """The orders."""
    async with new_session() as session:
        found = await session.scalars(sa.select(Order).order_by(Order.id))
        return [OrderOut.model_validate(order) for order in found]


@app.post("/orders", status_code=201)
async def place_order(new_order: NewOrder) -> OrderOut:
    """Take an order: the job that sends the receipt is part of the same transaction."""
    async with new_session.begin() as session:
        order = Order(**new_order.model_dump())
        session.add(order)
        await session.flush()
        await send_receipt.configure(connection=session).defer_async(order_id=order.id)
        charge(order)
    return OrderOut.model_validate(order)


def charge(order: Order) -> None:
    """Take the money. Where that fails, the transaction ends here, without order and without job."""
    if order.euros > CREDIT:
        raise fastapi.HTTPException(402, "Payment declined")


@app.get("/queues")
async def queues(app: Annotated[procrastinate.App, fastapi.Depends(get_app)]) -> list[dict[str, object]]:
    """How many jobs there are."""
    return await app.job_manager.list_queues_async()
