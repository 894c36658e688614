"""The shop's pages."""

from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from shop.models import Order
from shop.tasks import ask_for_review, charge_card


class OutOfStock(Exception):
    """There is none left."""


def index(request: HttpRequest) -> HttpResponse:
    """The newest orders."""
    return render(request, "shop/index.html", {"orders": Order.objects.order_by("-pk")[:20]})


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Place an order: its row and its jobs are committed together, or not at all."""
    try:
        with transaction.atomic():
            order = Order.objects.create(customer=request.POST["customer"], amount=request.POST["amount"])
            charge_card.defer(order_id=order.pk)
            if order.pk % 20 == 0:
                ask_for_review.configure(schedule_in={"seconds": 3}).defer(order_id=order.pk)
            if request.POST.get("item") == "unicorn":
                raise OutOfStock("Unicorns are out of stock")
    except OutOfStock as error:
        return JsonResponse({"error": str(error)}, status=409)
    return JsonResponse({"order": order.pk})
