from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, JsonResponse

from tests.django.shop.models import Order
from tests.django.shop.tasks import ship, ship_async


class _Change(Exception):
    """The customer has changed their mind."""


def order(request: HttpRequest) -> JsonResponse:
    """Store an order and defer a job in one transaction; ``?fail=1`` rolls back."""
    job_id = None
    try:
        with transaction.atomic():
            row = Order.objects.create(product="book")
            job_id = ship.defer(order_id=row.pk)
            if "fail" in request.GET:
                raise _Change
    except _Change:
        job_id = None
    return JsonResponse({"job": job_id})


async def order_async(request: HttpRequest) -> JsonResponse:
    """The same without a transaction, in an asynchronous view."""
    row = await Order.objects.acreate(product="book")
    return JsonResponse({"job": await ship_async.defer_async(order_id=row.pk)})
