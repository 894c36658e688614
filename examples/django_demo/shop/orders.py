"""Placing an order."""

from __future__ import annotations

from django.db import transaction
from shop.models import Order
from shop.tasks import ask_for_review, charge_card, hand_over, pack_parcel, print_label

from procrastinate.contrib.django import app


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


def ship(order_id: int) -> None:
    """Ship an order: pack it and print its label in any order, and hand it over after both."""
    steps = app.workflow(f"ship order {order_id}")
    packed = steps.add(pack_parcel, order_id=order_id)
    labelled = steps.add(print_label, order_id=order_id)
    steps.add(hand_over, after=[packed, labelled], order_id=order_id)
    steps.defer()
