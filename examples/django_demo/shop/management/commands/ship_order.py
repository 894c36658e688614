"""``manage.py ship_order ID``: ship an order, in a workflow of three steps."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand
from shop.orders import ship


class Command(BaseCommand):
    """Defers the workflow that ships an order."""

    help = "Ship an order."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the number of the order."""
        parser.add_argument("order_id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        """Defer the workflow."""
        ship(options["order_id"])
