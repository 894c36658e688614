"""The shop's pages."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from shop import inventory
from shop.models import Order
from shop.orders import OutOfStock, place

from procrastinate import exceptions
from procrastinate.contrib.django import app


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


@csrf_exempt
@require_POST
def begin_inventory(request: HttpRequest) -> HttpResponse:
    """Begin an inventory, and show its progress."""
    return redirect("inventory", workflow_id=inventory.begin())


def show_inventory(request: HttpRequest, workflow_id: int) -> HttpResponse:
    """Show the progress of an inventory. The page reloads itself until the inventory has ended."""
    try:
        info = app.workflows.get(workflow_id)
        graph = app.workflows.graph(workflow_id)
    except exceptions.WorkflowNotFound as error:
        raise Http404 from error
    steps = [node for node in graph.nodes if not node.is_callback]
    return render(request, "shop/inventory.html", {"info": info, "steps": steps})
