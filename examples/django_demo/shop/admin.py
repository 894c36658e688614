"""The shop's own page in the admin, next to Procrastinate's."""

from __future__ import annotations

from django.contrib import admin
from shop.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Orders and their progress."""

    list_display = ("id", "customer", "amount", "paid", "receipt_sent")
