"""Tasks of every kind that the tests of the sample project need."""

import asyncio
from functools import partial

from django.db import transaction

from procrastinate import Limit, Rate, RetryStrategy, Unique
from procrastinate.contrib.django import app
from shop.models import Mail, Order


class GatewayDown(Exception):
    """The payment cannot be made now."""


gateway = {"down_for": 0}


@app.task(queue="mail")
def send_mail(to: str, subject: str = "Hello") -> int:
    return Mail.objects.create(to=to, subject=subject).pk


@app.task
def confirm(order_id: int) -> str:
    order = Order.objects.get(pk=order_id)
    order.state = "confirmed"
    order.save()
    send_mail.defer(to=order.customer, subject="Confirmed")
    return order.state


@app.task
async def confirm_async(order_id: int) -> str:
    order = await Order.objects.aget(pk=order_id)
    order.state = "confirmed"
    await order.asave()
    await send_mail.defer_async(to=order.customer, subject="Confirmed")
    return order.state


@app.task(retry=RetryStrategy(max_attempts=5, wait=600))
def charge(order_id: int) -> None:
    if gateway["down_for"]:
        gateway["down_for"] -= 1
        raise GatewayDown
    Order.objects.filter(pk=order_id).update(state="paid")


@app.task(queue="reminders")
def remind(order_id: int) -> None:
    send_mail.configure(schedule_in={"hours": 1}).defer(to=Order.objects.get(pk=order_id).customer, subject="Reminder")


@app.task
def mail_after_commit(to: str) -> None:
    with transaction.atomic():
        transaction.on_commit(partial(send_mail.defer, to=to, subject="Committed"))


@app.task(pass_context=True)
def who(context) -> list:
    """A sync task must find no event loop in its thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = "no loop"
    else:
        loop = "loop"
    return [context.worker_name, context.job.attempts, loop]


@app.task(pass_context=True)
def pay(context, order_id: int, fail: bool = False) -> None:
    """Ends together with its own transaction."""
    with context.transaction():
        Order.objects.filter(pk=order_id).update(state="paid")
        send_mail.defer(to="shop", subject="Paid")
        if fail:
            raise GatewayDown


@app.task
def count(number: int) -> int:
    return number


@app.task(pass_context=True)
def confirm_once(context, order_id: int) -> None:
    with context.transaction():
        Order.objects.filter(pk=order_id).update(state="confirmed")
        send_mail.defer(to=f"order {order_id}", subject="Confirmed")


@app.task(pass_context=True)
async def confirm_once_async(context, order_id: int) -> None:
    async with context.transaction():
        await Order.objects.filter(pk=order_id).aupdate(state="confirmed")
        await send_mail.defer_async(to=f"order {order_id}", subject="Confirmed")


def customer_of(given) -> str:
    return given["customer"]


exported = []


@app.task(limit=Limit("exports", by=customer_of, concurrency=1, total=2))
def export(customer: str) -> None:
    exported.append(customer)


@app.task(limit=Limit("reports", by=customer_of, fair=True, rate=Rate(2, per={"hours": 1})))
def report(customer: str) -> None:
    exported.append(customer)


@app.task(limit=Limit("calls", by=customer_of, concurrency=2), pass_context=True)
def call(context, customer: str) -> None:
    exported.append(customer)
    context.hold_off({"hours": 1})


@app.task(unique=Unique(by=customer_of, on_conflict="skip"))
def digest(customer: str) -> None:
    exported.append(customer)
