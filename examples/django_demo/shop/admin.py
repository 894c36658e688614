"""The shop's own page in the admin, beside Procrastinate's."""

from __future__ import annotations

from django.contrib import admin
from shop.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Orders, and how far they have come."""

    list_display = ("id", "customer", "amount", "paid", "receipt_sent")
