"""The inventory of the warehouse: a workflow of jobs."""

from __future__ import annotations

from django.db import transaction
from shop.tasks import compare_with_books, count_shelf, tell_the_manager

from procrastinate.contrib.django import app

SHELVES = tuple(f"{aisle}{number}" for aisle in "ABCD" for number in range(1, 11))


@transaction.atomic
def begin() -> int:
    """Begin an inventory, and return the id of its workflow.

    All shelves are counted, many at a time. Their sum is compared with the books once the last one is counted. If a
    shelf cannot be counted, the manager hears of it.
    """
    inventory = app.workflow("inventory")
    shelves = inventory.group("shelves")
    for shelf in SHELVES:
        shelves.add(count_shelf, shelf=shelf, step=f"count shelf {shelf}")
    inventory.add(compare_with_books, counts=shelves.values)
    inventory.on_failure(tell_the_manager)
    return inventory.defer()
