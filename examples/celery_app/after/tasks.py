"""The tasks of the shop."""

from __future__ import annotations

from typing import Any

from procrastinate.contrib.celery import shared_task


@shared_task(name="shop.charge")
def charge(order: int, *, amount: int) -> None:
    """Charge an order."""
    print(f"Order {order} is charged {amount}", flush=True)


@shared_task(name="shop.ship", bind=True, max_retries=2)
def ship(self: Any, order: int) -> None:
    """Ship an order. The carrier does not answer at first."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    print(f"Order {order} is shipped in run {self.request.retries + 1}", flush=True)


@shared_task(name="shop.report", autoretry_for=(OSError,), retry_backoff=True)
def report(kind: str) -> None:
    """Write a report."""
    print(f"The report of {kind} is written", flush=True)
