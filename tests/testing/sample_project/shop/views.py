from django.db import transaction
from django.http import JsonResponse

from shop.models import Order
from shop.tasks import confirm, remind


def order(request):
    """Take an order, and see to it later."""
    with transaction.atomic():
        placed = Order.objects.create(customer=request.GET.get("customer", "ann"))
        confirm.configure(lock=f"customer-{placed.customer}", priority=3).defer(order_id=placed.pk)
        remind.configure(schedule_in={"days": 1}).defer(order_id=placed.pk)
    return JsonResponse({"order": placed.pk})
