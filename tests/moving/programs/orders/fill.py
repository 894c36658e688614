"""Orders that point at their jobs: half of them are paid."""

from django.core.management import call_command

from orders.models import Order
from orders.tasks import pay


def place(count):
    for _ in range(count):
        order = Order.objects.create(name="new")
        Order.objects.filter(pk=order.pk).update(job_id=pay.defer(order_id=order.pk))


place(3)
call_command("procrastinate", "worker", "--one-shot")
place(3)
