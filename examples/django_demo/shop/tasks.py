"""The tasks after an order is placed. Procrastinate imports the module ``tasks`` of each app."""

from __future__ import annotations

import asyncio
import time

from asgiref.sync import sync_to_async
from shop.models import Order

from procrastinate import JobContext, Limit, RetryStrategy
from procrastinate.contrib.django import app

CALLS_AT_ONCE = 3
"""The number of calls that the bank takes at once."""


class CardDeclined(Exception):
    """The bank declined the card."""


@app.task(
    limit=Limit("bank", concurrency=CALLS_AT_ONCE),
    retry=RetryStrategy(max_attempts=2, wait=1),
    pass_context=True,
    queue="payments",
)
def charge_card(context: JobContext, order_id: int) -> None:
    """Charge the customer's card. The bank does not answer every first call and declines some cards."""
    if order_id % 10 == 0 and context.job.attempts == 0:
        raise TimeoutError("The bank did not answer")
    if order_id % 100 == 0:
        raise CardDeclined(f"The card for order {order_id} was declined")
    Order.objects.filter(pk=order_id).update(paid=True)
    send_receipt.defer(order_id=order_id)


@app.task(queue="mail")
async def send_receipt(order_id: int) -> None:
    """Send the receipt."""
    await sync_to_async(Order.objects.filter(pk=order_id).update)(receipt_sent=True)


@app.task(queue="mail")
def ask_for_review(order_id: int) -> None:
    """Ask the customer for a review some time after the order."""


@app.task(queue="mail")
def send_newsletter(subject: str) -> None:
    """Write to all customers."""


@app.task(queue="stock")
async def take_stock(shelf: str) -> None:
    """Count the stock of a shelf, which takes an hour."""
    await asyncio.sleep(3600)


@app.task(queue="stock")
async def pack_parcel(order_id: int) -> None:
    """Pack a parcel, which takes three seconds."""
    await asyncio.sleep(3)


@app.task(queue="stock")
def print_label(order_id: int) -> None:
    """Print the address of the customer."""


@app.task(queue="stock")
def hand_over(order_id: int) -> None:
    """Hand the parcel to the carrier, once it is packed and has its label."""


@app.task(queue="stock")
async def call_off(job_id: int) -> None:
    """Request the abort of a running job."""
    await app.job_manager.cancel_job_by_id_async(job_id, abort=True)


@app.task(queue="stock", store_result=True)
def count_shelf(shelf: str) -> int:
    """Count the horses on a shelf, which takes a moment."""
    time.sleep(0.1)
    return sum(map(ord, shelf)) % 17


@app.task(queue="stock", store_result=True)
def compare_with_books(counts: list[int]) -> int:
    """Compare the sum of all shelves with the books."""
    return sum(counts)


@app.task(queue="mail", pass_context=True)
def tell_the_manager(context: JobContext) -> None:
    """Say which shelves could not be counted."""
    for step in context.workflow.failed():
        print(f"{step.step} (job {step.job_id}): {step.message}")


@app.periodic(cron="*/5 * * * * *")
@app.task
def count_orders(timestamp: int) -> int:
    """Count the orders, every five seconds."""
    return Order.objects.count()
