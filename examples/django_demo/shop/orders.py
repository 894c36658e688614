"""Placing an order."""

from __future__ import annotations

from django.db import transaction
from shop.models import Order
from shop.tasks import ask_for_review, charge_card


class OutOfStock(Exception):
    """The item is out of stock."""


@transaction.atomic
def place(*, customer: str, amount: str, item: str = "horse") -> Order:
    """Place an order. Its row and its jobs are committed together or not at all."""
    order = Order.objects.create(customer=customer, amount=amount)
    charge_card.defer(order_id=order.pk)
    if order.pk % 20 == 0:
        ask_for_review.configure(schedule_in={"seconds": 3}).defer(order_id=order.pk)
    if item == "unicorn":
        raise OutOfStock("Unicorns are out of stock")
    return order
