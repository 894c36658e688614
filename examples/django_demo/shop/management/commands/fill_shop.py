"""``manage.py fill_shop``: place orders, and defer jobs that reach every state once a worker runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from shop.orders import place, ship
from shop.tasks import ask_for_review, call_off, send_newsletter, take_stock

from procrastinate.contrib.django import app

ORDERS = 100


class Command(BaseCommand):
    """Fills the shop, so that the admin shows jobs in every state."""

    help = "Place orders, and defer jobs that reach every state once a worker runs."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Place orders, of which some payments fail, and defer at least one job for each other state."""
        orders = [place(customer=f"Customer {number}", amount="12.50") for number in range(1, ORDERS + 1)]
        for order in orders[:5]:
            ask_for_review.configure(schedule_in={"days": 3}).defer(order_id=order.pk)  # todo
        cancelled = send_newsletter.configure(schedule_in={"hours": 12}).defer(subject="Unicorns are back")
        app.job_manager.cancel_job_by_id(cancelled)
        send_newsletter.configure(schedule_in={"hours": 12}).defer(subject="No unicorns for now")
        take_stock.configure(priority=10).defer(shelf="A")  # doing
        aborted = take_stock.configure(priority=10).defer(shelf="B")
        call_off.defer(job_id=aborted)
        for order in orders[:3]:
            ship(order.pk)
