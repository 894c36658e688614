"""A task of Django's own framework."""

from shop.models import Order

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task


@task
def add_order() -> None:
    Order.objects.create(state="added")
