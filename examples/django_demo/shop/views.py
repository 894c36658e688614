"""The shop's pages."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from shop.models import Order
from shop.orders import OutOfStock, place


def index(request: HttpRequest) -> HttpResponse:
    """Show the newest orders."""
    return render(request, "shop/index.html", {"orders": Order.objects.order_by("-pk")[:20]})


@csrf_exempt
@require_POST
def place_order(request: HttpRequest) -> JsonResponse:
    """Place an order. Answer with an error if the item is out of stock."""
    form = request.POST
    try:
        order = place(customer=form["customer"], amount=form["amount"], item=form.get("item", "horse"))
    except OutOfStock as error:
        return JsonResponse({"error": str(error)}, status=409)
    return JsonResponse({"order": order.pk})
