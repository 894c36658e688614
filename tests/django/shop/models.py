from __future__ import annotations

from django.db import models


class Order(models.Model):
    """A row of the project, written together with jobs."""

    product = models.TextField()

    class Meta:
        app_label = "shop"
