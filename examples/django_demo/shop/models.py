"""The shop's model."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order, from placement to receipt."""

    customer = models.CharField(max_length=100)
    amount = models.DecimalField(max_digits=8, decimal_places=2)
    paid = models.BooleanField(default=False)
    receipt_sent = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"Order {self.pk} of {self.customer}"
